//! Durations as people write them (GEP-2257): `90s`, `12h`, `1h30m`.

use std::time::Duration;

/// Reads a duration; `None` if it is not one.
///
/// The schema admits only well-formed ones, so `None` means that the text never passed it.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..4 {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        if !(1..=5).contains(&number.len()) {
            return None;
        }
        let number: u64 = number.parse().ok()?;
        let (part, tail) = unit(number, tail)?;
        total += part;
        if tail.is_empty() {
            return Some(total);
        }
        rest = tail;
    }
    None
}

fn unit(number: u64, text: &str) -> Option<(Duration, &str)> {
    if let Some(tail) = text.strip_prefix("ms") {
        return Some((Duration::from_millis(number), tail));
    }
    let (seconds, unit) = match text.as_bytes().first()? {
        b'h' => (3600, "h"),
        b'm' => (60, "m"),
        b's' => (1, "s"),
        _ => return None,
    };
    Some((Duration::from_secs(number * seconds), text.strip_prefix(unit)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_schema_admits() {
        assert_eq!(parse("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse("1s500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("168h"), Some(Duration::from_secs(7 * 24 * 3600)));
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "5", "h", "1d", "-1s", "1.5h", "123456s", "1s ", "1h1m1s1ms1ms", "1ss"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
