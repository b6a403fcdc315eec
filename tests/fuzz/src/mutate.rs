//! Mutations of inputs: the same seed gives the same ones, on every machine.

use mesh_compiler::keyword::KEYWORDS;

/// Largest mutated input; faults that need more are looked for by tests of their own.
const BYTES_MAX: usize = 16 << 10;

/// What the language and its parser look at.
const TOKENS: [&str; 48] = [
    "{",
    "}",
    "{}",
    ";",
    "\n",
    " ",
    "\"",
    "\"\"\"",
    "\\",
    "#",
    "#\"",
    "\"#",
    "=",
    "/-",
    "//",
    "/*",
    "*/",
    "(",
    ")",
    "r\"",
    ",",
    "\u{2028}",
    "\u{feff}",
    "\u{202e}",
    "é",
    "\r",
    "\r\n",
    "\0",
    "0",
    "-1",
    "007",
    "1e999",
    "5xx",
    "10s",
    "\"100%\"",
    "\"1/s\"",
    "18446744073709551616",
    "none",
    "any",
    "true",
    "#true",
    "#null",
    "\"/**\"",
    "\"/{a}/*\"",
    "\"**\"",
    "regex=\"(a+)+$\"",
    "not {",
    "\\u{d800}",
];

/// SplitMix64: small, and the same everywhere and for ever.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound; 0 for 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or_default()
    }

    fn range(&mut self, length: usize) -> (usize, usize) {
        let start = self.below(length + 1);
        // Mostly short, sometimes the rest.
        let most = if self.below(8) == 0 { length } else { 24 };
        let end = (start + self.below(most + 1)).min(length);
        (start, end)
    }
}

/// An input that some steps lead to from one of the seeds.
pub fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random| {
        let index = random.below(seeds.len());
        seeds.get(index).cloned().unwrap_or_default()
    };
    let mut input = pick(random);
    for _ in 0..=random.below(4) {
        let (start, end) = random.range(input.len());
        match random.below(9) {
            0 => drop(input.drain(start..end)),
            1 => {
                let copy = input.get(start..end).unwrap_or_default().to_vec();
                input.splice(end..end, copy);
            }
            // Many of the same: what is quadratic shows.
            2 => {
                let copy = input.get(start..end).unwrap_or_default();
                let copies = copy.repeat(1 + random.below(64));
                input.splice(end..end, copies);
            }
            3 => {
                if let Some(byte) = input.get_mut(start) {
                    *byte ^= 1 << random.below(8);
                }
            }
            4 => {
                if let Some(byte) = input.get_mut(start) {
                    *byte = u8::try_from(random.below(256)).unwrap_or_default();
                }
            }
            5 | 6 => {
                let token = TOKENS
                    .get(random.below(TOKENS.len()))
                    .copied()
                    .unwrap_or(" ");
                let times = if random.below(16) == 0 { 200 } else { 1 };
                input.splice(start..start, token.repeat(times).into_bytes());
            }
            7 => {
                let word = KEYWORDS.get(random.below(KEYWORDS.len()));
                let word = word.map_or_else(String::new, |word| format!("{} ", word.name));
                input.splice(start..start, word.into_bytes());
            }
            _ => {
                let other = pick(random);
                let (from, to) = random.range(other.len());
                let part = other.get(from..to).unwrap_or_default().to_vec();
                input.splice(start..end, part);
            }
        }
        input.truncate(BYTES_MAX);
    }
    input
}

/// A shorter input with the same fault: parts are left out for as long as it still shows.
pub fn shortened(input: &[u8], shows: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    const TRIES_MAX: usize = 2_000;
    let mut short = input.to_vec();
    let mut size = short.len() / 2;
    let mut tries = 0;
    while size > 0 {
        let mut at = 0;
        while at < short.len() && tries < TRIES_MAX {
            tries += 1;
            let mut without = short.clone();
            without.drain(at..(at + size).min(short.len()));
            if shows(&without) {
                short = without;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let seeds = vec![b"service a { port 80 }".to_vec(), b"b \"c\"".to_vec()];
        let inputs = |seed| {
            let mut random = Random::new(seed);
            (0..50)
                .map(|_| mutated(&seeds, &mut random))
                .collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }

    #[test]
    fn what_does_not_matter_is_left_out() {
        let shows = |input: &[u8]| input.contains(&b'!');
        assert_eq!(shortened(b"some long text ! and more", shows), b"!");
    }
}
