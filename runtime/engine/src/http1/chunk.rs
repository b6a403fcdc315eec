//! The size line of a chunk, RFC 9112 section 7.1, without the white space that it tells recipients to forgive.

use super::Fault;

/// Longest size line, extensions included.
pub(super) const LINE_BYTES_MAX: usize = 256;
/// Fifteen digits stay below what any parser could overflow with.
const DIGITS_MAX: u8 = 15;

/// What of a size line has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SizeLine {
    size: u64,
    digits: u8,
    bytes: usize,
    in_extension: bool,
    after_cr: bool,
}

impl SizeLine {
    /// Takes one byte; the size, once the line has ended.
    pub(super) fn byte(&mut self, byte: u8) -> Result<Option<u64>, Fault> {
        self.bytes += 1;
        if self.bytes > LINE_BYTES_MAX {
            return Err(Fault::Chunk);
        }
        if self.after_cr {
            return match byte {
                b'\n' => Ok(Some(self.size)),
                _ => Err(Fault::Chunk),
            };
        }
        match (byte, char::from(byte).to_digit(16)) {
            (b'\n', _) => return Err(Fault::BareLineFeed),
            (b'\r', _) if self.digits > 0 => self.after_cr = true,
            (b'\t' | b' '..=b'~', _) if self.in_extension => {}
            (b';', _) if self.digits > 0 => self.in_extension = true,
            (_, Some(digit)) if self.digits < DIGITS_MAX && !self.in_extension => {
                self.size = self.size << 4 | u64::from(digit);
                self.digits += 1;
            }
            _ => return Err(Fault::Chunk),
        }
        Ok(None)
    }
}
