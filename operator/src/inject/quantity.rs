//! Amounts of processor time and memory, as Kubernetes writes them: `250m`, `0.5`, `64Mi`.

/// The longest number that cannot overflow, whatever its suffix.
const DIGITS: usize = 15;

/// Reads an amount in thousandths; `None` if it is none, or zero. The form with an exponent (`1e3`) is not taken.
pub(super) fn thousandths(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let factor = factor(suffix)?;
    let (whole, part) = number.split_once('.').map_or((number, ""), |(whole, part)| (whole, part));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(part) || whole.len() + part.len() > DIGITS || number.ends_with('.') {
        return None;
    }
    let read = format!("{whole}{part}").parse::<u128>().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    Some(read.checked_mul(factor)?.div_ceil(scale)).filter(|amount| *amount > 0)
}

/// Thousandths of one unit with this suffix.
fn factor(suffix: &str) -> Option<u128> {
    const THOUSAND: u128 = 1000;
    let powers = ["", "k", "M", "G", "T", "P", "E"].iter().position(|decimal| *decimal == suffix);
    let binary = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|binary| *binary == suffix);
    match (suffix, powers, binary) {
        ("m", ..) => Some(1),
        (_, Some(power), _) => THOUSAND.checked_pow(u32::try_from(power + 1).ok()?),
        (_, _, Some(power)) => Some(THOUSAND * 1024_u128.checked_pow(u32::try_from(power).ok()?)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_writes() {
        for (text, amount) in [
            ("1", 1000),
            ("250m", 250),
            ("0.5", 500),
            ("1.5k", 1_500_000),
            ("64Mi", 64 * 1024 * 1024 * 1000),
            ("2G", 2_000_000_000_000),
        ] {
            assert_eq!(thousandths(text), Some(amount), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for text in ["", "m", "-1", "0", "1.", ".5", "1.2.3", "1 Mi", "64MB", "1e3", "1234567890123456", "½"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
        assert!(thousandths("123456789012345Ei").is_some(), "the greatest amount does not overflow");
    }
}
