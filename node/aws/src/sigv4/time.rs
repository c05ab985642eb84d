use flotilla_base::Timestamp;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Reads `YYYYMMDDTHHMMSSZ`, the only form of `x-amz-date`. `None` for other forms, days that do not exist, and years
/// before 1970.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| -> Option<u64> {
        let part = bytes.get(range)?;
        part.iter().all(u8::is_ascii_digit).then(|| part.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
    };
    if bytes.len() != 16 || bytes.get(8) != Some(&b'T') || bytes.get(15) != Some(&b'Z') {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(4..6)?, digits(6..8)?);
    let (hour, minute, second) = (digits(9..11)?, digits(11..13)?, digits(13..15)?);
    if year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_before(year, month, day)?;
    Some(Timestamp(days * DAY_MS + (hour * 3600 + minute * 60 + second) * 1000))
}

/// Writes `YYYYMMDDTHHMMSSZ`. Years end at 9999.
pub(super) fn format(time: Timestamp) -> String {
    let (days, ms) = (time.0 / DAY_MS, time.0 % DAY_MS);
    let (year, month, day) = date_of(days);
    let seconds = ms / 1000;
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn month_days(year: u64) -> [u64; 12] {
    [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// Days from 1970-01-01 to 1 January of the year.
fn year_start(year: u64) -> u64 {
    let leaps = |y: u64| y / 4 - y / 100 + y / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    let months = month_days(year);
    let index = usize::try_from(month.checked_sub(1)?).ok()?;
    let length = *months.get(index)?;
    (1..=length).contains(&day).then(|| year_start(year) + months.iter().take(index).sum::<u64>() + day - 1)
}

fn date_of(days: u64) -> (u64, u64, u64) {
    // 366 days a year never overshoots, and few steps remain to the year that holds the day.
    let mut year = (1970 + days.min(3_000_000) / 366).min(9999);
    while year < 9999 && year_start(year + 1) <= days {
        year += 1;
    }
    let mut rest = days - year_start(year);
    let mut month = 1;
    for length in month_days(year) {
        if rest < length || month == 12 {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest.min(30) + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_instants() {
        for (text, ms) in [
            ("19700101T000000Z", 0),
            ("20150830T123600Z", 1_440_938_160_000),
            ("20000229T235959Z", 951_868_799_000),
            ("20261122T185830Z", 1_795_373_910_000),
        ] {
            assert_eq!(parse(text), Some(Timestamp(ms)), "{text}");
            assert_eq!(format(Timestamp(ms)), text);
        }
    }

    #[test]
    fn other_forms_and_days_that_do_not_exist_are_refused() {
        for bad in [
            "",
            "20150830",
            "2015-08-30T12:36:00Z",
            "20150230T000000Z",
            "21000229T000000Z",
            "20151301T000000Z",
            "20150001T000000Z",
            "20150100T000000Z",
            "20150830T240000Z",
            "20150830T126000Z",
            "19691231T235959Z",
            "20150830T123600z",
            "2015083éT123600Z",
            "+0150830T123600Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0u64..253_402_300_800) {
            let time = Timestamp(seconds * 1000);
            prop_assert_eq!(parse(&format(time)), Some(time));
        }

        #[test]
        fn no_instant_panics(ms in any::<u64>()) {
            let _ = format(Timestamp(ms));
        }
    }
}
