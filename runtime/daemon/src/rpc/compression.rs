//! Slices on the wire: zstd, whole or against a slice that the proxy holds. Nothing is decompressed
//! beyond the length that was signed, and no window is larger than a slice can be.

use std::io::{self, Read};

use mesh_bundle::limits::SLICE_BYTES_MAX;
use thiserror::Error;
use zstd::stream::read::Decoder;

/// Levels above gain little on slices and cost the distributor a multiple.
const LEVEL: i32 = 6;

/// 16 MiB, the largest slice: what a decoder may be made to allocate.
const WINDOW_LOG_MAX: u32 = 24;
const _: () = assert!(SLICE_BYTES_MAX <= 1 << WINDOW_LOG_MAX);

/// What is allocated before the first byte is there.
const FIRST_BYTES: usize = 64 * 1024;

/// Why compressed bytes are not the slice that was announced.
#[derive(Debug, Error)]
pub enum DecompressError {
    /// Not zstd, or damaged.
    #[error("slice does not decompress")]
    Malformed(#[source] io::Error),
    /// There is more than was signed.
    #[error("slice is longer than the {0} bytes that were signed")]
    TooLong(usize),
    /// There is less than was signed.
    #[error("slice has {found} bytes instead of the {signed} that were signed")]
    TooShort {
        /// What came out.
        found: usize,
        /// What was announced.
        signed: usize,
    },
}

/// Compresses a whole slice.
pub fn compress(slice: &[u8]) -> io::Result<Vec<u8>> {
    zstd::stream::encode_all(slice, LEVEL)
}

/// Compresses a slice for someone who holds `base`.
pub fn compress_delta(base: &[u8], slice: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::with_dictionary(LEVEL, base)?;
    compressor.compress(slice)
}

/// Decompresses a whole slice of exactly `signed` bytes.
pub fn decompress(compressed: &[u8], signed: usize) -> Result<Vec<u8>, DecompressError> {
    let decoder = Decoder::with_buffer(compressed).map_err(DecompressError::Malformed)?;
    read(decoder, signed)
}

/// Decompresses a slice of exactly `signed` bytes with `base`.
pub fn decompress_delta(
    base: &[u8],
    compressed: &[u8],
    signed: usize,
) -> Result<Vec<u8>, DecompressError> {
    let decoder = Decoder::with_dictionary(compressed, base).map_err(DecompressError::Malformed)?;
    read(decoder, signed)
}

fn read<R: io::BufRead>(
    mut decoder: Decoder<'_, R>,
    signed: usize,
) -> Result<Vec<u8>, DecompressError> {
    decoder
        .window_log_max(WINDOW_LOG_MAX)
        .map_err(DecompressError::Malformed)?;
    let mut bytes = Vec::with_capacity(signed.min(FIRST_BYTES));
    let limit = u64::try_from(signed).unwrap_or(u64::MAX);
    let end = decoder
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes);
    match end {
        // A frame that breaks off is judged by what came before: too short, as a whole one would be.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(DecompressError::Malformed(error));
        }
        _ => {}
    }
    if bytes.len() > signed {
        return Err(DecompressError::TooLong(signed));
    }
    if bytes.len() < signed {
        return Err(DecompressError::TooShort {
            found: bytes.len(),
            signed,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_delta() {
        let base: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut slice = base.clone();
        slice.splice(40..44, *b"another weight");
        let whole = compress(&slice).unwrap();
        let delta = compress_delta(&base, &slice).unwrap();
        assert!(delta.len() * 10 < whole.len());
        assert_eq!(decompress(&whole, slice.len()).unwrap(), slice);
        assert_eq!(decompress_delta(&base, &delta, slice.len()).unwrap(), slice);
        assert!(decompress_delta(b"other", &delta, slice.len()).is_err());
    }

    #[test]
    fn a_frame_that_breaks_off_is_too_short() {
        let slice: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
        let whole = compress(&slice).unwrap();
        let (half, _) = whole.split_at(whole.len() / 2);
        let error = decompress(half, slice.len()).unwrap_err();
        assert!(matches!(error, DecompressError::TooShort { .. }), "{error}");
    }

    #[test]
    fn never_more_than_was_signed() {
        // 4 GiB of zeros in 400 KB: read a byte too far, and no further.
        let mut bomb = Vec::new();
        let piece = zstd::stream::encode_all(io::repeat(0).take(16 << 20), LEVEL).unwrap();
        for _ in 0..256 {
            bomb.extend_from_slice(&piece);
        }
        assert!(matches!(
            decompress(&bomb, 100),
            Err(DecompressError::TooLong(100))
        ));
    }

    #[test]
    fn less_than_was_signed_and_damage() {
        let whole = compress(b"slice").unwrap();
        assert!(matches!(
            decompress(&whole, 6),
            Err(DecompressError::TooShort {
                found: 5,
                signed: 6
            })
        ));
        assert!(decompress(b"no zstd", 6).is_err());
        assert!(decompress(whole.split_last().unwrap().1, 5).is_err());
    }
}
