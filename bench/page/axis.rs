//! Axes: where a value lies, which values are marked, and how they are written.

/// How values spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By decades.
    Log,
    /// Shares by how little is left to 1: 90 %, 99 %, 99.9 % are evenly apart.
    Percentile,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    scale: Scale,
    min: f64,
    max: f64,
    /// What it shows, with its unit.
    pub label: String,
}

impl Axis {
    /// An axis from 0 to the largest of these values, and a little more.
    pub fn linear(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let max = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        Self::new(
            Scale::Linear,
            label,
            0.0,
            if max > 0.0 { max * 1.05 } else { 1.0 },
        )
    }

    /// An axis between these.
    pub fn between(label: &str, min: f64, max: f64) -> Self {
        Self::new(Scale::Linear, label, min, max.max(min + 1e-9))
    }

    /// An axis that holds these values; what is not above 0 has no place on it.
    pub fn log(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (mut min, mut max) = (f64::INFINITY, 0.0f64);
        for value in values.filter(|v| v.is_finite() && *v > 0.0) {
            min = min.min(value);
            max = max.max(value);
        }
        if max == 0.0 {
            (min, max) = (0.1, 1.0);
        }
        Self::new(Scale::Log, label, min / 1.2, max * 1.2)
    }

    /// An axis of shares from 0 to 1 less one in `count`.
    pub fn percentile(label: &str, count: u64) -> Self {
        let max = 1.0 - 1.0 / (count.max(2) as f64);
        Self::new(Scale::Percentile, label, 0.0, max)
    }

    fn new(scale: Scale, label: &str, min: f64, max: f64) -> Self {
        Self {
            scale,
            min,
            max,
            label: label.to_owned(),
        }
    }

    /// Where a value lies, 0 to 1; what is outside lies at the end.
    pub fn at(&self, value: f64) -> f64 {
        let bend = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(1e-12).log10(),
            Scale::Percentile => -(1.0 - value.min(1.0 - 1e-12)).log10(),
        };
        let (min, max) = (bend(self.min), bend(self.max));
        ((bend(value) - min) / (max - min)).clamp(0.0, 1.0)
    }

    /// Values to mark, as they are written.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => self.linear_ticks(),
            Scale::Log => self.log_ticks(),
            Scale::Percentile => self.percentile_ticks(),
        }
    }

    fn linear_ticks(&self) -> Vec<(f64, String)> {
        let rough = (self.max - self.min) / 6.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * decade);
        let step = step
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let first = (self.min / step).ceil() as i64;
        let last = (self.max / step + 1e-9).floor() as i64;
        (first..=last)
            .map(|n| (n as f64 * step, plain(n as f64 * step)))
            .collect()
    }

    fn log_ticks(&self) -> Vec<(f64, String)> {
        let decades = (self.max / self.min).log10();
        let marks: &[f64] = if decades < 3.2 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let mut ticks = Vec::new();
        for decade in self.min.log10().floor() as i32..=self.max.log10().ceil() as i32 {
            for mark in marks {
                let value = mark * 10f64.powi(decade);
                if (self.min..=self.max).contains(&value) {
                    ticks.push((value, plain(value)));
                }
            }
        }
        ticks
    }

    fn percentile_ticks(&self) -> Vec<(f64, String)> {
        let mut ticks = vec![(0.0, String::from("0")), (0.5, String::from("50"))];
        for nines in 1..=12 {
            let share = 1.0 - 0.1f64.powi(nines);
            if share > self.max + 1e-12 {
                break;
            }
            let decimals = (nines - 2).max(0) as usize;
            ticks.push((share, format!("{:.decimals$}", share * 100.0)));
        }
        ticks
    }
}

/// A number without digits that say nothing.
pub fn plain(value: f64) -> String {
    let text = match value.abs() {
        0.0 => return String::from("0"),
        v if v >= 1e6 => return format!("{}M", plain(value / 1e6)),
        v if v >= 1e4 => return format!("{}k", plain(value / 1e3)),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(
            names(&Axis::between("s", 0.0, 10.0)),
            ["0", "2", "4", "6", "8", "10"]
        );
        let axis = Axis::log("ms", [0.3, 12_000.0].into_iter());
        assert_eq!(names(&axis), ["1", "10", "100", "1000", "10k"]);
        let axis = Axis::log("ms", [0.9, 11.0].into_iter());
        assert_eq!(names(&axis), ["1", "2", "5", "10"]);
        let axis = Axis::percentile("%", 100_000);
        assert_eq!(
            names(&axis),
            ["0", "50", "90", "99", "99.9", "99.99", "99.999"]
        );
    }

    #[test]
    fn places_are_where_they_should_be() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(Axis::between("", 0.0, 10.0).at(5.0), 0.5));
        let percentiles = Axis::percentile("", 10_000);
        assert!(near(percentiles.at(0.99), 0.5) && near(percentiles.at(1.0), 1.0));
        let log = Axis::log("", [1.2, 100.0 / 1.2].into_iter());
        assert!(near(log.at(10.0), 0.5), "{}", log.at(10.0));
        assert!(near(log.at(0.0), 0.0));
    }

    #[test]
    fn no_values_still_make_an_axis() {
        assert!(!Axis::log("", std::iter::empty()).ticks().is_empty());
        assert!(!Axis::linear("", std::iter::empty()).ticks().is_empty());
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.05, "0.05"),
            (1.5, "1.5"),
            (250.0, "250"),
            (25_000.0, "25k"),
            (2e6, "2M"),
        ];
        for (value, text) in cases {
            assert_eq!(plain(value), text);
        }
    }
}
