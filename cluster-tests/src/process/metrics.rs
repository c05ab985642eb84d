/// A reading of `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<(String, f64)>);

impl Metrics {
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            lines
                .filter_map(|line| line.rsplit_once(' '))
                .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
                .collect(),
        )
    }

    /// The sum of all series of `name` that carry every one of `labels`, which are written `key="value"`; `None` when
    /// there is none.
    pub fn sum(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let of = |series: &str| {
            let rest = series.strip_prefix(name)?;
            let inside = if rest.is_empty() { "" } else { rest.strip_prefix('{')?.strip_suffix('}')? };
            labels.iter().all(|label| inside.contains(label)).then_some(())
        };
        self.0
            .iter()
            .filter(|(series, _)| of(series).is_some())
            .map(|(_, value)| *value)
            .reduce(|sum, value| sum + value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let text = "# HELP x\na_total{k=\"1\",l=\"x\"} 2\na_total{k=\"2\"} 3\na_total_b 9\nfree 7\n# EOF\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a_total", &[]), Some(5.0));
        assert_eq!(metrics.sum("a_total", &["k=\"1\""]), Some(2.0));
        assert_eq!(metrics.sum("free", &[]), Some(7.0));
        assert_eq!(metrics.sum("a_total", &["k=\"3\""]), None);
    }
}
