use std::fmt;

/// What a ratio, or a difference, must be.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// First divided by second.
    Least(f64),
    Most(f64),
    /// First minus second, in the row's unit.
    MostPlus(f64),
}

/// A case: the median of each server, and what it is held against.
pub struct Row {
    case: String,
    unit: &'static str,
    figures: Vec<(String, f64, String)>,
    verdicts: Vec<String>,
}

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// # Panics
/// When there are no values: a case that was not measured has no figure.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

impl Row {
    pub const fn new(case: String, unit: &'static str) -> Self {
        Self { case, unit, figures: Vec::new(), verdicts: Vec::new() }
    }

    pub fn figure(&mut self, server: &str, value: f64, decimals: usize, beside: String) {
        let beside = if beside.is_empty() { beside } else { format!(" ({beside})") };
        self.figures.push((server.to_owned(), value, format!("{server} {value:.decimals$}{beside}")));
    }

    /// Says whether `server` is where it should be with respect to `other`; nothing when one was not measured.
    pub fn hold(&mut self, server: &str, other: &str, bound: Bound) {
        let Some((own, others)) = self.pair(server, other) else { return };
        let ratio = own / others;
        let (met, said) = match bound {
            Bound::Least(bound) => (ratio >= bound, format!("{ratio:.2} × {other} (≥ {bound})")),
            Bound::Most(bound) => (ratio <= bound, format!("{ratio:.2} × {other} (≤ {bound})")),
            Bound::MostPlus(bound) => {
                (own - others <= bound, format!("{other} {:+.1} {} (≤ +{bound})", own - others, self.unit))
            }
        };
        self.verdicts.push(format!("{} {said}", if met { "pass" } else { "**miss**" }));
    }

    /// Says the ratio of two others, for comparison.
    pub fn compare(&mut self, server: &str, other: &str) {
        if let Some((own, others)) = self.pair(server, other) {
            self.verdicts.push(format!("for comparison {server} {:.2} × {other}", own / others));
        }
    }

    fn pair(&self, server: &str, other: &str) -> Option<(f64, f64)> {
        let value = |name: &str| self.figures.iter().find(|(known, ..)| known == name).map(|(_, value, _)| *value);
        Some((value(server)?, value(other)?))
    }
}

impl Table {
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| case | unit | medians | flotilla against the others |\n|---|---|---|---|")?;
        for row in &self.rows {
            let figures: Vec<_> = row.figures.iter().map(|(_, _, text)| text.as_str()).collect();
            writeln!(f, "| {} | {} | {} | {} |", row.case, row.unit, figures.join(" · "), row.verdicts.join(" · "))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn verdicts_say_pass_and_miss() {
        let mut row = Row::new("case".into(), "s");
        for (name, value) in [("a", 2.0), ("b", 1.0)] {
            row.figure(name, value, 1, String::new());
        }
        row.hold("a", "b", Bound::Least(1.5));
        row.hold("a", "b", Bound::Most(1.5));
        row.hold("a", "b", Bound::MostPlus(5.0));
        row.hold("a", "absent", Bound::Most(1.0));
        assert_eq!(row.verdicts.len(), 3);
        assert!(
            row.verdicts[0].starts_with("pass 2.00")
                && row.verdicts[1].starts_with("**miss**")
                && row.verdicts[2].starts_with("pass")
        );
    }
}
