//! Instants as people write them: from now on, or on the calendar.

use std::time::Duration;

use flotilla_base::Timestamp;

use crate::error::CliError;

const UNITS: [(char, u64); 5] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 7 * 86_400)];

/// `90d` from `now`, or RFC 3339.
pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    let instant = from_now(text, now).or_else(|| rfc3339(text));
    instant.ok_or_else(|| {
        CliError::Usage(format!("'{text}' is no time: write 90d, 12h or 30m, or a date as 2027-01-31T12:00:00Z"))
    })
}

fn from_now(text: &str, now: Timestamp) -> Option<Timestamp> {
    let unit = text.chars().next_back()?;
    let (_, seconds) = UNITS.into_iter().find(|(letter, _)| *letter == unit)?;
    let count: u32 = text.strip_suffix(unit)?.parse().ok().filter(|count| *count > 0)?;
    Some(now.plus(Duration::from_secs(u64::from(count).checked_mul(seconds)?)))
}

/// `2027-01-31T12:00:00Z`, or with an offset as `+01:00`; a fraction of a second is dropped.
fn rfc3339(text: &str) -> Option<Timestamp> {
    let number = |text: &str, digits: usize| {
        (text.len() == digits && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse::<i64>().ok())?
    };
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (number(date.next()?, 4)?, number(date.next()?, 2)?, number(date.next()?, 2)?);
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(at);
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) = (number(time.next()?, 2)?, number(time.next()?, 2)?, number(time.next()?, 2)?);
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let seconds = number(hours, 2)? * 3600 + number(minutes, 2)? * 60;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *days_of.get(usize::try_from(month - 1).ok()?)?;
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let years = year - 1970;
    // Leap days from 1970 up to the year before.
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let days =
        years * 365 + leaps(year - 1) - leaps(1969) + days_of[..usize::try_from(month - 1).ok()?].iter().sum::<i64>();
    let seconds = (days + day - 1) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Timestamp(u64::try_from(seconds).ok()?.checked_mul(1000)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_people_write_them() {
        let now = Timestamp(1_000_000);
        for (text, ms) in [
            ("90d", 1_000_000 + 90 * 86_400_000),
            ("1w", 1_000_000 + 7 * 86_400_000),
            ("12h", 1_000_000 + 12 * 3_600_000),
            ("30m", 1_000_000 + 1_800_000),
            ("5s", 1_005_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2026-11-22T18:58:30Z", 1_795_373_910_000),
            ("2026-11-22T19:58:30.25+01:00", 1_795_373_910_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
        ] {
            assert_eq!(parse(text, now).unwrap(), Timestamp(ms), "{text}");
        }
        for bad in [
            "",
            "d",
            "0d",
            "-1d",
            "90",
            "90 days",
            "tomorrow",
            "2027-02-29T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-01-01",
            "2027-01-01T24:00:00Z",
            "2027-01-01T00:00:00",
            "1969-12-31T23:59:59Z",
            "é",
        ] {
            assert_eq!(parse(bad, now).unwrap_err().code(), 2, "{bad}");
        }
    }
}
