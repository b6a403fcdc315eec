//! Values with units: times, shares and rates.

use std::time::Duration;

use super::Wrong;
use crate::{code, limits};

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    name: &'static str,
    milliseconds: u64,
}

/// Longest first, for printing.
const UNITS: [Unit; 5] = [
    Unit {
        name: "d",
        milliseconds: 86_400_000,
    },
    Unit {
        name: "h",
        milliseconds: 3_600_000,
    },
    Unit {
        name: "m",
        milliseconds: 60_000,
    },
    Unit {
        name: "s",
        milliseconds: 1000,
    },
    Unit {
        name: "ms",
        milliseconds: 1,
    },
];

/// How many of a unit.
type Times = (u64, Unit);

const SYNTAX: &str = "a time is a whole number and one of the units ms s m h d";

/// A word where quotes are needed; the fix adds them.
pub(crate) fn quoted_if_word(word: &str) -> Wrong {
    if word == "none" {
        return Wrong::kind().help("`none` can't stand here");
    }
    Wrong::because(format!("`{word}` needs quotes")).instead(format!("\"{word}\""))
}

fn split_unit(text: &str) -> Option<Times> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = UNITS.into_iter().find(|known| known.name == unit)?;
    // Fifteen digits are far beyond the longest time, and below an overflow.
    (1..=15).contains(&digits).then_some(())?;
    Some((number.parse().ok()?, unit))
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, Wrong> {
    let Some((number, unit)) = split_unit(text) else {
        let wrong = Wrong::because(format!("\"{text}\" is not a time")).help(SYNTAX);
        return Err(match as_milliseconds(text) {
            Some(ms) => wrong.instead(format!("\"{ms}ms\"")),
            None => wrong,
        });
    };
    let time = Duration::from_millis(number.saturating_mul(unit.milliseconds));
    if time.is_zero() {
        let mut wrong = Wrong::range("no time at all would fail every request")
            .help("to take a limit away, write `none`");
        wrong.code = code::ZERO_TIME;
        return Err(wrong);
    }
    if time > limits::TIME_MAX {
        return Err(Wrong::range(format!("\"{text}\" is longer than a year")));
    }
    Ok(time)
}

/// `1.5s` in milliseconds.
fn as_milliseconds(text: &str) -> Option<u64> {
    let unit = UNITS.into_iter().find(|unit| {
        text.strip_suffix(unit.name)
            .is_some_and(|rest| rest.ends_with(|last: char| last.is_ascii_digit()))
    })?;
    let (whole, part) = text.strip_suffix(unit.name)?.split_once('.')?;
    let scale = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit.milliseconds)?;
    let part = part.parse::<u64>().ok()?.checked_mul(unit.milliseconds)?;
    part.is_multiple_of(scale)
        .then(|| whole.checked_add(part / scale))?
}

/// Of 10,000.
pub(super) fn parse_percent(text: &str) -> Result<u32, Wrong> {
    let Some(number) = text.strip_suffix('%') else {
        return Err(Wrong::because(format!("\"{text}\" is not a share"))
            .help("a share is a number and a per cent sign, such as \"20%\""));
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 2 || !digits(whole) || !digits(part) {
        return Err(Wrong::because(format!("\"{text}\" is not a share"))
            .help("a share is 0% to 100%, with at most two decimals"));
    }
    let parts = format!("{whole}{part:0<2}")
        .parse::<u32>()
        .unwrap_or(u32::MAX);
    if parts > 10_000 {
        return Err(Wrong::range(format!(
            "\"{text}\" is more than all: it may be 0% to 100%"
        )));
    }
    Ok(parts)
}

/// A rate as policy writes it, without quotes.
pub fn rate_text(count: u64, per: Duration) -> String {
    let per = duration_text(per);
    // `1s` is written `s`; `10s` is not.
    let unit = per
        .strip_prefix('1')
        .filter(|rest| rest.starts_with(|first: char| first.is_ascii_alphabetic()));
    format!("{count}/{}", unit.unwrap_or(&per))
}

/// `100/s`, `100/10s`.
pub(super) fn parse_rate(text: &str) -> Result<(u64, Duration), Wrong> {
    let wrong = || {
        Wrong::because(format!("\"{text}\" is not a rate"))
            .help("a rate is a number, a slash and a time: \"100/s\", \"5/10s\"")
    };
    let (count, per) = text.split_once('/').ok_or_else(wrong)?;
    if count.is_empty() || count.len() > 12 || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let count = count.parse().ok().ok_or_else(wrong)?;
    let unit = UNITS
        .into_iter()
        .find(|unit| unit.name == per)
        .map(|unit| (1, unit));
    let (number, unit) = unit.or_else(|| split_unit(per)).ok_or_else(wrong)?;
    let per = Duration::from_millis(number.saturating_mul(unit.milliseconds));
    if per.is_zero() || per > limits::TIME_MAX {
        return Err(Wrong::range(format!(
            "\"{text}\" counts over a time that is too short or too long"
        )));
    }
    Ok((count, per))
}

/// `64KiB`, in bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, Wrong> {
    const SYNTAX: &str = "a size is a whole number and one of the units B KiB MiB";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let wrong = || Wrong::because(format!("\"{text}\" is not a size")).help(SYNTAX);
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "KB" | "kB" | "K" | "k" | "kb" | "kib" if digits > 0 => {
            return Err(wrong().instead(format!("\"{number}KiB\"")));
        }
        "MB" | "M" | "m" | "mb" | "mib" if digits > 0 => {
            return Err(wrong().instead(format!("\"{number}MiB\"")));
        }
        _ => return Err(wrong()),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .ok_or_else(wrong)?
        .saturating_mul(factor);
    if bytes == 0 || bytes > limits::SIZE_MAX {
        return Err(Wrong::range(format!(
            "\"{text}\" is out of range: it may be \"1B\" to \"1024MiB\""
        )));
    }
    Ok(bytes)
}

/// A share of 10,000 as policy writes it.
pub fn percent_text(share: u32) -> String {
    let (whole, part) = (share / 100, share % 100);
    match part {
        0 => format!("{whole}%"),
        part if part.is_multiple_of(10) => format!("{whole}.{}%", part / 10),
        part => format!("{whole}.{part:02}%"),
    }
}

/// A time as policy writes it: the largest unit that divides it.
pub fn duration_text(time: Duration) -> String {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    UNITS
        .into_iter()
        .find(|unit| {
            milliseconds >= unit.milliseconds && milliseconds.is_multiple_of(unit.milliseconds)
        })
        .map_or_else(
            || format!("{milliseconds}ms"),
            |unit| format!("{}{}", milliseconds / unit.milliseconds, unit.name),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<u64> {
        parse_duration(text)
            .ok()
            .map(|time| u64::try_from(time.as_millis()).unwrap())
    }

    #[test]
    fn times_are_whole_numbers_with_a_unit() {
        assert_eq!(time("250ms"), Some(250));
        assert_eq!(time("2s"), Some(2000));
        assert_eq!(time("3m"), Some(180_000));
        assert_eq!(time("1d"), Some(86_400_000));
        for bad in [
            "",
            "s",
            "2",
            "2 s",
            "-1s",
            "1.5s",
            "2sec",
            "0s",
            "999999999999999d",
            "٢s",
        ] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_fraction_is_answered_with_its_milliseconds() {
        assert_eq!(
            parse_duration("1.5s").unwrap_err().instead.as_deref(),
            Some("\"1500ms\"")
        );
        assert_eq!(parse_duration("0.0001s").unwrap_err().instead, None);
    }

    #[test]
    fn shares_are_ten_thousandths() {
        let share = |text| parse_percent(text).ok();
        assert_eq!(share("20%"), Some(2000));
        assert_eq!(share("12.5%"), Some(1250));
        assert_eq!(share("0.01%"), Some(1));
        assert_eq!(share("100%"), Some(10_000));
        for bad in ["20", "101%", "1.234%", "%", ".5%", "-1%", "1e1%"] {
            assert_eq!(share(bad), None, "{bad}");
        }
    }

    #[test]
    fn rates_are_a_count_over_a_time() {
        let rate = |text| parse_rate(text).ok();
        assert_eq!(rate("5/s"), Some((5, Duration::from_secs(1))));
        assert_eq!(rate("100/10s"), Some((100, Duration::from_secs(10))));
        for bad in ["5", "5/", "/s", "5/0s", "x/s", "5/s/s"] {
            assert_eq!(rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_print_as_they_are_written() {
        for text in ["250ms", "2s", "90s", "2m", "36h", "2d"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
    }
}
