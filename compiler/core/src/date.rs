//! Days of the calendar, for what expires. Which day it is comes from whoever compiles: the compiler
//! itself has no clock.

use std::fmt;

/// A day, of the Gregorian calendar and in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// Reads `2027-03-01`; nothing if there is no such day.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let shaped = bytes.len() == 10
            && bytes.iter().enumerate().all(|(index, byte)| match index {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !shaped {
            return None;
        }
        let year: u16 = text.get(..4)?.parse().ok()?;
        let month: u8 = text.get(5..7)?.parse().ok()?;
        let day: u8 = text.get(8..)?.parse().ok()?;
        let exists = year >= 1970 && (1..=days_in(year, month)?).contains(&day);
        exists.then_some(Self { year, month, day })
    }

    /// The day of a moment in Unix time; one outside of the calendar's four digits counts as its nearest day.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        const DAY: i64 = 86_400;
        const LAST: i64 = 2_932_896; // 9999-12-31
        let mut days = seconds.div_euclid(DAY).clamp(0, LAST);
        let mut year: u16 = 1970;
        while days >= length_of(year) {
            days -= length_of(year);
            year += 1;
        }
        let mut month: u8 = 1;
        while let Some(length) = days_in(year, month)
            .map(i64::from)
            .filter(|length| days >= *length)
        {
            days -= length;
            month += 1;
        }
        let day = u8::try_from(days + 1).unwrap_or(1);
        Self { year, month, day }
    }

    /// Days since 1970-01-01, to tell how far two days are apart.
    pub fn days(self) -> i64 {
        let years: i64 = (1970..self.year).map(length_of).sum();
        let months = (1..self.month).filter_map(|month| days_in(self.year, month));
        years + months.map(i64::from).sum::<i64>() + i64::from(self.day) - 1
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn length_of(year: u16) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in(year: u16, month: u8) -> Option<u8> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap(year) { 29 } else { 28 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_that_exist_are_dates() {
        for good in ["1970-01-01", "2024-02-29", "2000-02-29", "9999-12-31"] {
            assert_eq!(Date::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "2023-02-29",
            "1900-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-1-1",
            "1969-12-31",
            "2026-04-31",
            "2026/01/01",
            "２026-01-0",
        ] {
            assert_eq!(Date::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_moment_has_its_day() {
        let at = |seconds| Date::from_unix_seconds(seconds).to_string();
        assert_eq!(at(0), "1970-01-01");
        assert_eq!(at(86_399), "1970-01-01");
        assert_eq!(at(951_782_400), "2000-02-29");
        assert_eq!(at(1_795_268_759), "2026-11-21");
        assert_eq!(at(i64::MAX), "9999-12-31");
        assert_eq!(at(i64::MIN), "1970-01-01");
    }

    #[test]
    fn days_count_what_the_moment_counts() {
        for day in [0, 59, 60, 365, 11_016, 20_778, 2_932_896] {
            assert_eq!(Date::from_unix_seconds(day * 86_400).days(), day);
        }
    }
}
