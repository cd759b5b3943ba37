//! Writes the Prometheus text format (0.0.4): families, samples, escapes. Knows no metric.
//!
//! Source: prometheus.io "Exposition formats". Must not allocate per sample beyond the page itself.
//! Invariant: HELP and TYPE come before the samples of a family, and a family is written once.

use std::fmt::{Display, Write};

use super::cells::{BUCKETS, Histogram};
use super::families::Family;

/// A page being written.
pub(super) struct Page(String);

impl Page {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    pub(super) fn family(&mut self, family: &Family) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {} {}", family.name, family.help);
        let _ = writeln!(self.0, "# TYPE {} {}", family.name, family.kind.label());
    }

    pub(super) fn sample(&mut self, family: &Family, labels: &[(&str, &str)], value: impl Display) {
        self.line(family.name, "", labels, value);
    }

    /// Bucket, sum and count lines of `of`, the same histogram as several workers kept it.
    pub(super) fn histogram<'a>(
        &mut self,
        family: &Family,
        set: &str,
        listener: &str,
        of: impl Iterator<Item = &'a Histogram>,
    ) {
        let (mut counts, mut sum_ns) = ([0u64; BUCKETS], 0u64);
        for histogram in of {
            for (total, cell) in counts.iter_mut().zip(&histogram.buckets) {
                *total = total.wrapping_add(cell.get());
            }
            sum_ns = sum_ns.wrapping_add(histogram.sum_ns.get());
        }
        let mut count = 0;
        for (i, n) in counts.iter().enumerate() {
            // Each cell was read once, so what is cumulated here cannot disagree with itself.
            count = n.wrapping_add(count);
            let bound = Histogram::upper_bound(i).map_or_else(|| "+Inf".to_owned(), |le| le.to_string());
            self.line(family.name, "_bucket", &[("set", set), ("listener", listener), ("le", &bound)], count);
        }
        let labels = [("set", set), ("listener", listener)];
        self.line(family.name, "_sum", &labels, sum_ns as f64 / 1e9);
        self.line(family.name, "_count", &labels, count);
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        self.0.push_str(suffix);
        for (i, (label, text)) in labels.iter().enumerate() {
            self.0.push(if i == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::families::{REQUEST_SECONDS, SESSIONS};
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::with_capacity(0);
        page.sample(&SESSIONS, &[("set", "a\"b\\c\nd"), ("listener", "x")], 3);
        assert_eq!(page.finish(), "redweir_sessions{set=\"a\\\"b\\\\c\\nd\",listener=\"x\"} 3\n");
    }

    #[test]
    fn a_histogram_of_two_workers_is_cumulative_and_ends_at_its_count() {
        let (one, two) = (Histogram::default(), Histogram::default());
        one.observe(Duration::from_nanos(500), 2);
        two.observe(Duration::from_micros(3), 1);
        two.observe(Duration::from_secs(3600), 4);
        let mut page = Page::with_capacity(0);
        page.histogram(&REQUEST_SECONDS, "s", "l", [&one, &two].into_iter());
        let page = page.finish();
        let lines: Vec<_> = page.lines().collect();
        let line = |rest: &str, value: &str| format!("redweir_request_seconds{rest} {value}");
        assert_eq!(lines[0], line("_bucket{set=\"s\",listener=\"l\",le=\"0.000001024\"}", "2"));
        assert_eq!(lines[1], line("_bucket{set=\"s\",listener=\"l\",le=\"0.000002048\"}", "2"));
        assert_eq!(lines[2], line("_bucket{set=\"s\",listener=\"l\",le=\"0.000004096\"}", "3"));
        assert_eq!(lines[BUCKETS - 1], line("_bucket{set=\"s\",listener=\"l\",le=\"+Inf\"}", "7"));
        assert_eq!(lines[BUCKETS], line("_sum{set=\"s\",listener=\"l\"}", "14400.000004"));
        assert_eq!(lines[BUCKETS + 1], line("_count{set=\"s\",listener=\"l\"}", "7"));
        assert_eq!(lines.len(), BUCKETS + 2);
    }
}
