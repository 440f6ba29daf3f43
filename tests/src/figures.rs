//! Figures with their baselines and bars: one table for people, one JSON list for machines, from the benchmark and from
//! the fault harness alike.

use std::{fs, io, path::Path};

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    pub value: f64,
    /// Of what: `requests/s`, `us`, `MiB`, `lost`.
    pub unit: &'static str,
    /// The same of the baseline in the same run, where there is one.
    pub baseline: Option<f64>,
    /// Value over baseline.
    pub ratio: Option<f64>,
    /// The lowest and the highest ratio, where pairs were measured in turn.
    pub spread: Option<[f64; 2]>,
    /// What is to be reached, in words.
    pub bar: String,
    pub reached: bool,
}

impl Figure {
    /// A figure against a baseline; `bar` judges the ratio.
    pub fn ratio(name: &str, value: f64, unit: &'static str, baseline: f64, bar: Bar) -> Self {
        let ratio = value / baseline;
        let (bar, reached) = bar.judge(ratio, "x");
        let (baseline, ratio) = (Some(baseline), Some(ratio));
        Self { name: name.into(), value, unit, baseline, ratio, spread: None, bar, reached }
    }

    /// Values and baselines that were measured in turn; `bar` judges the median of the ratios, pair by pair, because a
    /// machine that is slow for a while is slow for both of a pair.
    pub fn pairs(name: &str, pairs: &[(f64, f64)], unit: &'static str, bar: Bar) -> Self {
        let ratios: Vec<f64> = pairs.iter().map(|(value, baseline)| value / baseline).collect();
        let lowest = ratios.iter().copied().fold(f64::NAN, f64::min);
        let highest = ratios.iter().copied().fold(f64::NAN, f64::max);
        let ratio = median(ratios);
        let (bar, reached) = bar.judge(ratio, "x");
        Self {
            name: name.into(),
            value: median(pairs.iter().map(|(value, _)| *value).collect()),
            unit,
            baseline: Some(median(pairs.iter().map(|(_, baseline)| *baseline).collect())),
            ratio: Some(ratio),
            spread: Some([lowest, highest]),
            bar,
            reached,
        }
    }

    /// A figure that stands alone; `bar` judges the value.
    pub fn plain(name: &str, value: f64, unit: &'static str, bar: Bar) -> Self {
        let (bar, reached) = bar.judge(value, unit);
        Self { name: name.into(), value, unit, baseline: None, ratio: None, spread: None, bar, reached }
    }

    /// Something that must not have happened, out of so many tries.
    pub fn never(name: &str, happened: u64, unit: &'static str, tries: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a table for people")]
        let value = happened as f64;
        let bar = format!("0 of {tries}");
        let reached = happened == 0 && tries > 0;
        Self { name: name.into(), value, unit, baseline: None, ratio: None, spread: None, bar, reached }
    }
}

/// The one in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Told, not judged.
    None,
}

impl Bar {
    fn judge(self, value: f64, unit: &str) -> (String, bool) {
        match self {
            Bar::AtLeast(bar) => (format!(">= {bar} {unit}"), value >= bar),
            Bar::AtMost(bar) => (format!("<= {bar} {unit}"), value <= bar),
            Bar::None => (String::new(), true),
        }
    }
}

/// As a table with aligned columns.
pub fn table(figures: &[Figure]) -> String {
    let mut rows =
        vec![["figure", "value", "baseline", "ratio", "spread", "bar", "reached"].map(String::from)];
    rows.extend(figures.iter().map(|figure| {
        [
            figure.name.clone(),
            format!("{} {}", number(figure.value), figure.unit),
            figure.baseline.map(number).unwrap_or_default(),
            figure.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            figure.spread.map(|[low, high]| format!("{low:.2}-{high:.2}")).unwrap_or_default(),
            figure.bar.clone(),
            if figure.bar.is_empty() {
                ""
            } else if figure.reached {
                "yes"
            } else {
                "NO"
            }
            .to_owned(),
        ]
    }));
    let widths: Vec<usize> = (0..7)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0))
        .collect();
    let line = |row: &[String; 7]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// As a JSON list.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(figures: &[Figure], file: &Path) -> io::Result<()> {
    fs::write(file, serde_json::to_vec_pretty(figures)?)
}
