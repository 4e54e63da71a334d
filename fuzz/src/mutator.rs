//! Inputs in the neighbourhood of good ones.

/// Changes seeds at random places; the same number gives the same inputs.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
    seeds: Vec<Vec<u8>>,
}

/// Values at which lengths and counters go wrong.
const EDGES: [u8; 8] = [0, 1, 3, 4, 0x7f, 0x80, 0xfe, 0xff];
/// No input gets longer.
const LONGEST: usize = 4096;

impl Mutator {
    /// Over seeds, of which there is at least one.
    pub fn new(number: u64, seeds: Vec<Vec<u8>>) -> Self {
        Self { state: number, seeds }
    }

    /// Puts the next input in place of what is there.
    pub fn next(&mut self, input: &mut Vec<u8>) {
        input.clear();
        let seed = self.below(self.seeds.len());
        input.extend_from_slice(&self.seeds[seed]);
        for _ in 0..self.below(8) {
            self.change(input);
        }
        input.truncate(LONGEST);
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let length = self.below(16).min(input.len() - at);
        match self.below(7) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..at + length)),
            2 => input.insert(at, self.byte()),
            3 => input.extend_from_within(at..at + length),
            4 => {
                let other = self.below(self.seeds.len());
                let from = self.below(self.seeds[other].len() + 1);
                let to = from + self.below(64).min(self.seeds[other].len() - from);
                drop(input.splice(at..at, self.seeds[other][from..to].iter().copied()));
            }
            5 if at < input.len() => input[at] ^= 1 << self.below(8),
            _ if at < input.len() => input[at] = self.byte(),
            _ => {}
        }
    }

    fn byte(&mut self) -> u8 {
        let random = self.random();
        let [first, second, ..] = random.to_le_bytes();
        if first & 1 == 0 { EDGES[usize::from(second) % EDGES.len()] } else { second }
    }

    /// A number below `end`; 0 where there is none.
    fn below(&mut self, end: usize) -> usize {
        let random = usize::try_from(self.random() >> 32).unwrap_or_default();
        random.checked_rem(end).unwrap_or_default()
    }

    /// `SplitMix64`
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_again() {
        let inputs = |number| {
            let mut mutator = Mutator::new(number, vec![b"seed".to_vec(), Vec::new()]);
            let mut input = Vec::new();
            let mut next = || {
                mutator.next(&mut input);
                input.clone()
            };
            (0..1000).map(|_| next()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }
}
