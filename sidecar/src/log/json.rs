//! JSON strings, RFC 3339 times and small numbers, into a byte buffer.

/// Writes `value` as a JSON string with its quotes.
pub(super) fn string(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let bytes = value.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        escape(out, byte);
        from = at + 1;
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
        }
    }
}

/// An HTTP status as text; 0 to 999.
pub(super) fn three_digits(number: u16) -> [u8; 3] {
    let digit = |n: u16| b'0' + u8::try_from(n % 10).unwrap_or(0);
    [digit(number / 100), digit(number / 10), digit(number)]
}

/// A time as RFC 3339 in UTC with milliseconds. Lines come many to a second, so the text of the second is kept.
#[derive(Debug)]
pub(super) struct Timestamp {
    second: Option<u64>,
    text: [u8; 24],
}

impl Default for Timestamp {
    fn default() -> Self {
        Self { second: None, text: *b"0000-00-00T00:00:00.000Z" }
    }
}

impl Timestamp {
    /// The text of a time in milliseconds since the epoch.
    pub(super) fn at(&mut self, millis: u64) -> &[u8] {
        let second = millis / 1000;
        if self.second != Some(second) {
            self.second = Some(second);
            self.write_second(second);
        }
        self.digits(20, 3, millis % 1000);
        &self.text
    }

    fn write_second(&mut self, second: u64) {
        let (year, month, day) = civil(second / 86_400);
        self.digits(0, 4, year);
        self.digits(5, 2, month);
        self.digits(8, 2, day);
        self.digits(11, 2, second / 3600 % 24);
        self.digits(14, 2, second / 60 % 60);
        self.digits(17, 2, second % 60);
    }

    fn digits(&mut self, at: usize, width: usize, mut value: u64) {
        for place in self.text[at..at + width].iter_mut().rev() {
            *place = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
    }
}

/// Year, month and day of a count of days since 1970-01-01. Years are counted from March, so that a leap day is the
/// last day of its year, in eras of 400 years, which all have the same number of days.
fn civil(days_since_epoch: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_0000: u64 = 719_468;
    const DAYS_OF_ERA: u64 = 146_097;
    let days = days_since_epoch + DAYS_FROM_MARCH_0000;
    let (era, day_of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn text(value: &str) -> String {
        let mut out = Vec::new();
        string(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_string_comes_back_from_a_json_parser() {
        let all: String = (0..=0x2fff_u32).filter_map(char::from_u32).collect();
        assert_eq!(serde_json::from_str::<String>(&text(&all)).unwrap(), all);
        assert_eq!(text("a\"b\\c\n\u{7f}"), r#""a\"b\\c\n\u007f""#);
    }

    #[test]
    fn times_are_rfc_3339() {
        let mut time = Timestamp::default();
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (1_795_651_200_001, "2026-11-26T00:00:00.001Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(std::str::from_utf8(time.at(millis)).unwrap(), expected);
        }
    }

    #[test]
    fn a_status_has_three_digits() {
        assert_eq!(&three_digits(204), b"204");
        assert_eq!(&three_digits(7), b"007");
    }
}
