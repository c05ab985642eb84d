//! Text for people: tables, facts, sizes, ages.

use comfy_table::{CellAlignment, Table, presets};
use flotilla_base::Timestamp;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;

/// Columns apart by two spaces, no lines: easy on the eye, and on `awk`.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| plain(&cell))));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// `name  value` lines; facts without a value are left out.
pub(crate) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let facts: Vec<(&str, String)> = facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    facts.iter().map(|(name, value)| format!("{name:width$}  {}\n", plain(value))).collect()
}

/// A server's text without what could move a terminal's cursor.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The same for texts of several lines.
pub(crate) fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// Time since an instant of the API (seconds since the Unix epoch): `12s`, `5m`, `3h`, `9d`.
pub(crate) fn age(then_s: f64, now: Timestamp) -> String {
    // Casts saturate: what lies in the future, or is no number, is now.
    duration((now.seconds() - then_s).max(0.0) as u64)
}

/// In the largest unit that shows at least one.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        s if s >= DAY_S => format!("{}d", s / DAY_S),
        s if s >= HOUR_S => format!("{}h", s / HOUR_S),
        s if s >= MINUTE_S => format!("{}m", s / MINUTE_S),
        s => format!("{s}s"),
    }
}

/// Enough of a digest to tell it from others by eye, and to paste nowhere.
pub(crate) fn short_digest(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) => format!("{algorithm}:{}", hex.chars().take(12).collect::<String>()),
        None => digest.to_owned(),
    }
}

pub(crate) fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_end_without_spaces() {
        let text = table(["A", "LONGER"], [["x".into(), "y".into()], ["wide cell".into(), "\u{1b}[2J".into()]]);
        assert_eq!(text, "A          LONGER\nx          y\nwide cell  \u{fffd}[2J\n");
        assert_eq!(table(["A"], []), "A\n");
    }

    #[test]
    fn facts_skip_what_is_unknown() {
        assert_eq!(facts([("a", Some("1".into())), ("bcd", None), ("ef", Some("2".into()))]), "a   1\nef  2\n");
    }

    #[test]
    fn ages_use_one_unit() {
        let now = Timestamp(1_000_000_000);
        for (then, text) in [
            (1_000_000.0, "0s"),
            (999_941.0, "59s"),
            (999_940.0, "1m"),
            (996_400.0, "1h"),
            (913_600.0, "1d"),
            (2e9, "0s"),
            (f64::NAN, "0s"),
            (f64::NEG_INFINITY, "213503982334601d"),
        ] {
            assert_eq!(age(then, now), text, "{then}");
        }
    }
}
