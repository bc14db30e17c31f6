//! How many rounds there are, and what is made of their figures.

use std::time::{Duration, Instant};

/// How long a work goes on: at least so many rounds, and more as long as there is time.
#[derive(Clone, Copy)]
pub struct Rounds {
    pub least: usize,
    pub most: usize,
    pub time: Duration,
}

impl Rounds {
    /// Runs the rounds; they are numbered from 0.
    pub fn run(self, mut round: impl FnMut(usize)) {
        let start = Instant::now();
        for n in 0..self.most {
            if n >= self.least && start.elapsed() > self.time {
                break;
            }
            round(n);
        }
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// The least and the most of them.
pub fn spread(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, most)
}

/// What each round of `these` is to the same round of `those`.
pub fn ratios(these: &[f64], those: &[f64]) -> Vec<f64> {
    these
        .iter()
        .zip(those)
        .map(|(this, that)| this / that)
        .collect()
}
