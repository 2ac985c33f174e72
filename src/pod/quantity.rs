//! Resource quantities: `500m`, `64Mi`, `1.5`, `2e3` (kubernetes "Quantity").
//!
//! A quantity is exact: it is kept in billionths (the finest unit that Kubernetes has), so nothing
//! is lost between a manifest and a control group. What is asked for in whole units is rounded up,
//! as Kubernetes does, so that nobody gets less than was asked for. Printing is canonical: the
//! largest suffix that needs no fraction, in the family (binary, decimal, exponent) it was read in.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const NANO: i128 = 1_000_000_000;
/// The largest amount, in whole units; the same limit as in Kubernetes.
const MAX: i128 = i64::MAX as i128 * NANO;

/// An exact amount of a resource.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Quantity {
    nanos: i128,
    family: Family,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Decimal,
    Binary,
    Exponent,
}

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuantityError {
    /// It does not have the form number and suffix.
    Form,
    /// It is beyond 2^63 - 1 whole units.
    TooLarge,
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => {
                "is not a quantity: a number with one of n u m k M G T P E Ki Mi Gi Ti Pi Ei, or an exponent, like 500m, 64Mi, 1.5, 2e3"
            }
            Self::TooLarge => "is too large: the largest quantity is 2^63-1",
        })
    }
}

impl std::error::Error for QuantityError {}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        family: Family::Decimal,
    };

    /// So many whole units (bytes, cores).
    pub fn from_value(value: u64) -> Self {
        Self {
            nanos: (i128::from(value) * NANO).min(MAX),
            family: Family::Decimal,
        }
    }

    /// So many bytes, written with a binary suffix.
    pub fn from_bytes(bytes: u64) -> Self {
        Self {
            family: Family::Binary,
            ..Self::from_value(bytes)
        }
    }

    /// So many thousandths.
    pub fn from_milli(milli: u64) -> Self {
        Self {
            nanos: (i128::from(milli) * (NANO / 1000)).min(MAX),
            family: Family::Decimal,
        }
    }

    /// Whole units, rounded up; less than nothing counts as nothing.
    pub fn value(self) -> u64 {
        ceil_div(self.nanos, NANO)
    }

    /// Thousandths, rounded up; less than nothing counts as nothing.
    pub fn milli_value(self) -> u64 {
        ceil_div(self.nanos, NANO / 1000)
    }

    /// How many times `divisor` goes into it, rounded up. A divisor of nothing counts as one.
    pub fn divided_by(self, divisor: Self) -> u64 {
        let divisor = if divisor.nanos == 0 {
            NANO
        } else {
            divisor.nanos
        };
        ceil_div(self.nanos, divisor)
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The sum, in the family of the first that is not zero, at most the largest quantity.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            nanos: (self.nanos + other.nanos).clamp(-MAX, MAX),
            family: if self.nanos == 0 {
                other.family
            } else {
                self.family
            },
        }
    }
}

fn ceil_div(amount: i128, unit: i128) -> u64 {
    if amount <= 0 || unit <= 0 {
        return 0;
    }
    u64::try_from((amount - 1) / unit + 1).unwrap_or(u64::MAX)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// What a suffix multiplies with, as a fraction of billionths.
struct Scale {
    family: Family,
    /// Billionths in one unit, where that is a whole number.
    nanos: i128,
    /// Power of ten on top (only for exponents).
    exponent: i32,
}

fn scale(suffix: &str) -> Option<Scale> {
    let decimal = |nanos| Some((Family::Decimal, nanos));
    let binary = |power| Some((Family::Binary, NANO << (10 * power)));
    let found = match suffix {
        "n" => decimal(1),
        "u" => decimal(1000),
        "m" => decimal(1_000_000),
        "" => decimal(NANO),
        "k" => decimal(NANO * 1000),
        "M" => decimal(NANO * 1000_i128.pow(2)),
        "G" => decimal(NANO * 1000_i128.pow(3)),
        "T" => decimal(NANO * 1000_i128.pow(4)),
        "P" => decimal(NANO * 1000_i128.pow(5)),
        "E" => decimal(NANO * 1000_i128.pow(6)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => None,
    };
    if let Some((family, nanos)) = found {
        return Some(Scale {
            family,
            nanos,
            exponent: 0,
        });
    }
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // An exponent that does not fit is beyond every limit, whatever its digits.
    let exponent = digits.parse::<i32>().unwrap_or_else(|_| {
        if digits.starts_with('-') {
            -10_000
        } else {
            10_000
        }
    });
    Some(Scale {
        family: Family::Exponent,
        nanos: NANO,
        exponent: exponent.clamp(-10_000, 10_000),
    })
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let scale = scale(suffix).ok_or(QuantityError::Form)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Form);
        }
        let nanos = scaled(whole, fraction, &scale)?;
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            family: scale.family,
        })
    }
}

/// The number's billionths; what is finer is rounded up, what is larger than the limit is an error.
fn scaled(whole: &str, fraction: &str, scale: &Scale) -> Result<i128, QuantityError> {
    let fraction = fraction.trim_end_matches('0');
    let mut mantissa: i128 = 0;
    let mut dropped = false;
    let mut exponent = scale.exponent;
    for (index, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let in_fraction = index >= whole.len();
        // 10^26 leaves room for the largest scale, 2^60 billionths being below 10^28.
        if mantissa >= 100_000_000_000_000_000_000_000_000 {
            if !in_fraction {
                return Err(QuantityError::TooLarge);
            }
            dropped |= digit != b'0';
            continue;
        }
        mantissa = mantissa * 10 + i128::from(digit - b'0');
        if in_fraction {
            exponent -= 1;
        }
    }
    if mantissa == 0 {
        return Ok(i128::from(dropped));
    }
    multiply(mantissa, scale.nanos, exponent, dropped)
}

/// `mantissa * unit * 10^exponent`, rounded up.
fn multiply(
    mantissa: i128,
    unit: i128,
    mut exponent: i32,
    mut dropped: bool,
) -> Result<i128, QuantityError> {
    // Common factors of ten are taken out of the unit first, so that the product cannot overflow
    // while the result would fit.
    let (mut mantissa, mut unit) = (mantissa, unit);
    while exponent < 0 && unit % 10 == 0 {
        unit /= 10;
        exponent += 1;
    }
    while exponent < 0 && mantissa % 10 == 0 && mantissa != 0 {
        mantissa /= 10;
        exponent += 1;
    }
    let mut product = match mantissa.checked_mul(unit) {
        Some(product) => product,
        None if exponent >= 0 => return Err(QuantityError::TooLarge),
        None => {
            // More digits than any unit resolves: give up the last ones, rounding up.
            while exponent < 0 && mantissa.checked_mul(unit).is_none() {
                dropped |= mantissa % 10 != 0;
                mantissa /= 10;
                exponent += 1;
            }
            mantissa.checked_mul(unit).ok_or(QuantityError::TooLarge)?
        }
    };
    while exponent > 0 {
        product = product.checked_mul(10).ok_or(QuantityError::TooLarge)?;
        exponent -= 1;
        if product > MAX {
            return Err(QuantityError::TooLarge);
        }
    }
    while exponent < 0 && product > 0 {
        dropped |= product % 10 != 0;
        product /= 10;
        exponent += 1;
    }
    let result = product + i128::from(dropped);
    if result > MAX {
        return Err(QuantityError::TooLarge);
    }
    Ok(result)
}

impl TryFrom<String> for Quantity {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.to_string()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        // Below 1024 and for fractions a binary suffix says nothing; Kubernetes writes these in
        // decimal.
        if self.family == Family::Binary
            && self.nanos % NANO == 0
            && self.nanos.abs() >= 1024 * NANO
        {
            let mut value = self.nanos / NANO;
            let mut power = 0;
            while value % 1024 == 0 && power < 6 {
                value /= 1024;
                power += 1;
            }
            let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power];
            return write!(f, "{value}{suffix}");
        }
        let mut value = self.nanos;
        let mut power = 0;
        while value % 1000 == 0 && power < 9 {
            value /= 1000;
            power += 1;
        }
        if self.family == Family::Exponent {
            return match power {
                0 => write!(f, "{value}e-9"),
                1 => write!(f, "{value}e-6"),
                2 => write!(f, "{value}e-3"),
                3 => write!(f, "{value}"),
                more => write!(f, "{value}e{}", (more - 3) * 3),
            };
        }
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power];
        write!(f, "{value}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn quantities_are_exact_and_round_up() {
        // text, whole units, thousandths, canonical text
        for (text, value, milli, canonical) in [
            ("0", 0, 0, "0"),
            ("1", 1, 1000, "1"),
            ("0.5", 1, 500, "500m"),
            (".5", 1, 500, "500m"),
            ("5.", 5, 5000, "5"),
            ("+1", 1, 1000, "1"),
            ("100m", 1, 100, "100m"),
            ("1500m", 2, 1500, "1500m"),
            ("2000m", 2, 2000, "2"),
            ("1n", 1, 1, "1n"),
            ("100u", 1, 1, "100u"),
            ("0.0000000001", 1, 1, "1n"),
            ("1k", 1000, 1_000_000, "1k"),
            ("128974848", 128_974_848, 128_974_848_000, "128974848"),
            ("129e6", 129_000_000, 129_000_000_000, "129e6"),
            ("129M", 129_000_000, 129_000_000_000, "129M"),
            ("123Mi", 128_974_848, 128_974_848_000, "123Mi"),
            ("1024Mi", 1 << 30, 1_073_741_824_000, "1Gi"),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000, "1536Mi"),
            ("0.5Ki", 512, 512_000, "512"),
            ("1E", 1_000_000_000_000_000_000, u64::MAX, "1E"),
            ("7Ei", 7 << 60, u64::MAX, "7Ei"),
            ("1E3", 1000, 1_000_000, "1e3"),
            ("12E-1", 2, 1200, "1200e-3"),
            ("1e-9", 1, 1, "1e-9"),
            ("0e99999999999999999999", 0, 0, "0"),
            ("1e-99999999999999999999", 1, 1, "1e-9"),
        ] {
            let read = quantity(text);
            assert_eq!(read.value(), value, "{text}");
            if milli != u64::MAX {
                assert_eq!(read.milli_value(), milli, "{text}");
            }
            assert_eq!(read.to_string(), canonical, "{text}");
            assert_eq!(quantity(canonical), read, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", ".", "-", "+", "m", "1 Gi", "1gi", "1GI", "1K", "1mi", "1KiB", "0x10", "1e", "1e+",
            "1.2.3", "1e3k", "--1", "1m1", "é", "１", "1é", "NaN", "inf",
        ] {
            assert_eq!(
                text.parse::<Quantity>(),
                Err(QuantityError::Form),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_beyond_the_largest_is_refused() {
        for text in [
            "8Ei",
            "10E",
            "1e19",
            "1e99999999999999",
            "99999999999999999999",
            "9999999999999999999999999999999999999999999999999999",
            "99999999999999999999999999Ei",
        ] {
            assert_eq!(
                text.parse::<Quantity>(),
                Err(QuantityError::TooLarge),
                "{text}"
            );
        }
        assert_eq!(
            quantity("9223372036854775807").value(),
            9_223_372_036_854_775_807
        );
    }

    #[test]
    fn long_fractions_round_up_instead_of_overflowing() {
        assert_eq!(
            quantity("1.00000000000000000000000000000000000000000001").value(),
            2
        );
        assert_eq!(
            quantity("0.99999999999999999999999999999999999Gi").value(),
            1 << 30
        );
        assert_eq!(quantity("1.000000000000000000000000000000000").value(), 1);
    }

    #[test]
    fn equality_ignores_how_it_was_written() {
        assert_eq!(quantity("1Gi"), quantity("1073741824"));
        assert_eq!(quantity("0.1"), quantity("100m"));
        assert!(quantity("1G") < quantity("1Gi"));
        assert!(quantity("-1").is_negative());
    }

    #[test]
    fn division_rounds_up_and_survives_a_divisor_of_zero() {
        assert_eq!(quantity("64Mi").divided_by(quantity("1Mi")), 64);
        assert_eq!(quantity("65M").divided_by(quantity("1Mi")), 62);
        assert_eq!(quantity("250m").divided_by(quantity("1m")), 250);
        assert_eq!(quantity("250m").divided_by(quantity("1")), 1);
        assert_eq!(quantity("3").divided_by(Quantity::ZERO), 3);
    }
}
