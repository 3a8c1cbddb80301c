//! Keys of records: none, in turn, or drawn, each as likely or a few far more than
//! the rest, as in real traffic.

use std::sync::Arc;

use clap::ValueEnum;
use millrace::base::Rng;

/// In which order keys come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum KeyOrder {
    /// One after the other
    RoundRobin,
    /// Drawn, each as likely as the others
    #[default]
    Uniform,
    /// Drawn, the n-th with probability proportional to 1/n: few keys have most of the records
    Zipf,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Keys {
    count: u64,
    order: KeyOrder,
    /// Zipf: probability of each key and all before it.
    cumulative: Arc<[f64]>,
}

impl Keys {
    /// `count` different keys, none for 0.
    pub fn new(count: u32, order: KeyOrder) -> Self {
        let mut cumulative = Vec::new();
        if order == KeyOrder::Zipf {
            let mut sum = 0.0;
            cumulative.extend((1..=count).map(|rank| {
                sum += 1.0 / f64::from(rank);
                sum
            }));
            cumulative.iter_mut().for_each(|share| *share /= sum);
        }
        Self {
            count: u64::from(count),
            order,
            cumulative: cumulative.into(),
        }
    }

    /// Records without keys.
    #[cfg(test)]
    pub fn none() -> Self {
        Self::new(0, KeyOrder::Uniform)
    }

    /// For the report.
    pub fn describe(&self) -> String {
        match (self.count, self.order) {
            (0, _) => String::from("none"),
            (count, KeyOrder::RoundRobin) => format!("{count}, in turn"),
            (count, KeyOrder::Uniform) => format!("{count}, uniform"),
            (count, KeyOrder::Zipf) => format!("{count}, Zipf"),
        }
    }

    /// Number of the key of a record, itself number `turn`; `None` for no key.
    pub fn draw(&self, rng: &mut Rng, turn: u64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        Some(match self.order {
            KeyOrder::RoundRobin => turn % self.count,
            KeyOrder::Uniform => rng.below(self.count),
            KeyOrder::Zipf => {
                let point = rng.below(1 << 53) as f64 / (1u64 << 53) as f64;
                let rank = self.cumulative.partition_point(|&share| share <= point);
                (rank as u64).min(self.count - 1)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(order: KeyOrder) -> Vec<u32> {
        let keys = Keys::new(10, order);
        let mut rng = Rng::new(1);
        let mut counts = vec![0; 10];
        for turn in 0..10_000 {
            counts[keys.draw(&mut rng, turn).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn orders_differ_as_they_should() {
        assert_eq!(counts(KeyOrder::RoundRobin), vec![1000; 10]);
        assert!(
            counts(KeyOrder::Uniform)
                .iter()
                .all(|c| (850..1150).contains(c))
        );
        let zipf = counts(KeyOrder::Zipf);
        // The harmonic number of 10 is 2.93: the first key has 34 %, the tenth 3.4 %.
        assert!((3200..3650).contains(&zipf[0]), "{zipf:?}");
        assert!((250..450).contains(&zipf[9]), "{zipf:?}");
    }

    #[test]
    fn no_keys_no_key() {
        assert_eq!(Keys::none().draw(&mut Rng::new(1), 5), None);
    }
}
