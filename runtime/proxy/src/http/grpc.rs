//! Messages of gRPC as they pass: only their lengths are read, as gRPC over HTTP/2 has them before each
//! (a byte that says whether it is compressed, and four of length).

const PREFIX_BYTES: u8 = 5;

/// How far a stream of messages has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MessageCounter {
    /// Of the prefix of the message that comes.
    have: u8,
    /// The length as far as it has been read.
    length: u32,
    /// Bytes of a message that are still to come.
    left: u32,
}

impl MessageCounter {
    /// Reads on, and tells how many messages began.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> u64 {
        let mut messages = 0;
        loop {
            let here = usize::try_from(self.left)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            self.left -= u32::try_from(here).unwrap_or(0);
            bytes = bytes.get(here..).unwrap_or_default();
            let Some((first, rest)) = bytes.split_first() else {
                return messages;
            };
            bytes = rest;
            if self.have > 0 {
                self.length = self.length << 8 | u32::from(*first);
            }
            self.have += 1;
            if self.have == PREFIX_BYTES {
                messages += 1;
                (self.left, self.length, self.have) = (self.length, 0, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut stream = Vec::new();
        for length in [0_u32, 1, 300, 0, 70_000] {
            stream.push(0);
            stream.extend(length.to_be_bytes());
            stream.extend(vec![9; usize::try_from(length).unwrap()]);
        }
        for size in [1, 2, 3, 7, 4_096, stream.len()] {
            let mut counter = MessageCounter::default();
            let counted: u64 = stream.chunks(size).map(|chunk| counter.read(chunk)).sum();
            assert_eq!(counted, 5, "{size}");
        }
        // A length that is a lie is waited for and nothing else.
        let mut counter = MessageCounter::default();
        assert_eq!(counter.read(&[0, 255, 255, 255, 255, 1, 2, 3]), 1);
        assert_eq!(counter.read(&[0; 1_000]), 0);
    }
}
