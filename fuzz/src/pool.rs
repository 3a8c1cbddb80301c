//! The inputs worth mutating: the corpus, and every input whose outcome was new.

use std::collections::HashSet;

use millrace::base::Rng;

const INPUTS_MAX: usize = 4096;
const OUTCOMES_MAX: usize = 1 << 20;
/// Longer inputs would only make the loop slower.
const INPUT_BYTES_MAX: usize = 16 * 1024;

/// Inputs by novelty. Bounded: when full, a new input replaces a random old one.
#[derive(Default)]
pub struct Pool {
    inputs: Vec<Vec<u8>>,
    seen: HashSet<u64>,
}

impl Pool {
    /// Keeps `input` if nothing had this outcome before.
    pub fn add(&mut self, outcome: u64, input: Vec<u8>, rng: &mut Rng) {
        let known = self.seen.len() >= OUTCOMES_MAX || !self.seen.insert(outcome);
        if (known && !self.inputs.is_empty()) || input.len() > INPUT_BYTES_MAX {
            return;
        }
        if self.inputs.len() < INPUTS_MAX {
            self.inputs.push(input);
        } else {
            let at = rng.below(INPUTS_MAX as u64) as usize;
            self.inputs[at] = input;
        }
    }

    /// Any input; an empty one if there is none.
    pub fn pick(&self, rng: &mut Rng) -> &[u8] {
        let at = rng.below(self.inputs.len() as u64) as usize;
        self.inputs.get(at).map_or(&[], Vec::as_slice)
    }

    /// How many different outcomes were seen.
    pub fn outcomes(&self) -> usize {
        self.seen.len()
    }
}
