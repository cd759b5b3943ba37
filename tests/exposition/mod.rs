//! A strict reader of the Prometheus text format (0.0.4), for tests: what it lets pass, every scraper takes.
//!
//! Written from the format's description, independently of the writer. Invariant: returns every fault it finds as `Err`.

use std::collections::{BTreeMap, HashSet};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
}

#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Default)]
pub struct Page {
    pub families: BTreeMap<String, Family>,
}

impl Page {
    /// The value of the one sample of that name that has at least these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |s: &&Sample| {
            s.name == name && labels.iter().all(|(k, v)| s.labels.get(*k).map(String::as_str) == Some(*v))
        };
        let mut found = self.families.values().flat_map(|f| &f.samples).filter(fits);
        let value = found.next().map(|sample| sample.value);
        assert!(found.next().is_none(), "{name} {labels:?} is ambiguous");
        value
    }
}

/// Reads a whole page or says what is wrong with it.
pub fn parse(text: &str) -> Result<Page, String> {
    if !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    let (mut page, mut helped, mut current) = (Page::default(), HashSet::new(), String::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        let fault = |what: &str| format!("{what}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| fault("HELP without text"))?;
            if !is_name(name) || help.trim().is_empty() || !helped.insert(name.to_owned()) {
                return Err(fault("bad or second HELP"));
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| fault("TYPE without type"))?;
            if !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(fault("unknown type"));
            }
            if !helped.contains(name) {
                return Err(fault("TYPE without HELP before it"));
            }
            let family = Family { kind: kind.to_owned(), samples: Vec::new() };
            if page.families.insert(name.to_owned(), family).is_some() {
                return Err(fault("second TYPE"));
            }
            current = name.to_owned();
        } else if line.starts_with('#') {
            return Err(fault("comment"));
        } else {
            let sample = sample(line).map_err(|what| fault(&what))?;
            let family = page.families.get_mut(&current).ok_or_else(|| fault("sample before any TYPE"))?;
            let suffix = sample.name.strip_prefix(current.as_str()).ok_or_else(|| fault("of another family"))?;
            let fits = match family.kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                "counter" => suffix.is_empty() && current.ends_with("_total") && sample.value >= 0.0,
                _ => suffix.is_empty(),
            };
            if !fits {
                return Err(fault("does not fit its family's type"));
            }
            if family.samples.iter().any(|s| s.name == sample.name && s.labels == sample.labels) {
                return Err(fault("series twice"));
            }
            family.samples.push(sample);
        }
    }
    for (name, family) in page.families.iter().filter(|(_, family)| family.kind == "histogram") {
        check_histograms(name, &family.samples)?;
    }
    Ok(page)
}

fn is_name(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.chars().all(ok) && name.starts_with(|c: char| !c.is_ascii_digit())
}

/// `name{label="value",...} value`, no time stamp.
fn sample(line: &str) -> Result<Sample, String> {
    let at = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(at);
    if name.is_empty() || !is_name(name) {
        return Err("bad name".into());
    }
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("bad label")?;
            if label.is_empty() || !is_name(label) || label.contains(':') {
                return Err(format!("bad label name {label:?}"));
            }
            let (value, after) = quoted(after)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("label {label} twice"));
            }
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}').ok_or("labels do not end")?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let value: f64 = value.parse().map_err(|_| format!("bad value {value:?}"))?;
    if !value.is_finite() {
        return Err("value is not finite".into());
    }
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, unescaped, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, '\\')) => value.push('\\'),
                Some((_, '"')) => value.push('"'),
                Some((_, 'n')) => value.push('\n'),
                other => return Err(format!("bad escape {other:?}")),
            },
            other => value.push(other),
        }
    }
    Err("label value does not end".into())
}

fn check_histograms(name: &str, samples: &[Sample]) -> Result<(), String> {
    let mut series: BTreeMap<Labels, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        let le = labels.remove("le");
        if le.is_some() != sample.name.ends_with("_bucket") {
            return Err(format!("{name}: le where none belongs, or none where it does"));
        }
        series.entry(labels).or_default().push(sample);
    }
    for (labels, samples) in series {
        let fault = |what: &str| format!("{name} {labels:?}: {what}");
        let one = |suffix: &str| {
            let mut of = samples.iter().filter(|s| s.name == format!("{name}{suffix}"));
            of.next().map(|s| s.value).ok_or_else(|| fault(suffix))
        };
        let (count, _sum) = (one("_count")?, one("_sum")?);
        let (mut bound, mut below) = (f64::NEG_INFINITY, 0.0);
        for bucket in samples.iter().filter(|s| s.labels.contains_key("le")) {
            let le = &bucket.labels["le"];
            let le: f64 = if le == "+Inf" { f64::INFINITY } else { le.parse().map_err(|_| fault("bad le"))? };
            if le <= bound || bucket.value < below {
                return Err(fault("buckets not in order or not cumulative"));
            }
            (bound, below) = (le, bucket.value);
        }
        if bound != f64::INFINITY || below != count {
            return Err(fault("+Inf missing or not the count"));
        }
    }
    Ok(())
}
