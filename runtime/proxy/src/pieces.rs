//! Writing what lies in several places.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Up to this much is put together first: `send` of a few hundred bytes costs less than `writev` of two pieces, and
/// within TLS it is one record in place of two.
const JOINED_BYTES_MAX: usize = 2048;

/// Writes the first bytes of `pieces`, as many as are taken.
pub(crate) fn poll_write_pieces<IO: AsyncWrite + Unpin>(
    io: &mut IO,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let io = Pin::new(io);
    if let [piece] = pieces {
        return io.poll_write(cx, piece);
    }
    let mut joined = [0; JOINED_BYTES_MAX];
    let mut length = 0;
    for piece in pieces {
        let Some(room) = joined.get_mut(length..length + piece.len()) else {
            return io.poll_write_vectored(cx, pieces);
        };
        room.copy_from_slice(piece);
        length += piece.len();
    }
    io.poll_write(cx, joined.get(..length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn check(pieces: &[&[u8]]) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        let all = pieces.concat();
        let mut sent = 0;
        while sent < all.len() {
            let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut left = slices.as_mut_slice();
            IoSlice::advance_slices(&mut left, sent);
            sent += poll_fn(|cx| poll_write_pieces(&mut ours, cx, left))
                .await
                .unwrap();
        }
        drop(ours);
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, all);
    }

    #[tokio::test]
    async fn whatever_there_is_is_written_in_order() {
        check(&[b"head"]).await;
        check(&[b"head", b"", b"body", b"end"]).await;
        check(&[b"head", &[b'x'; JOINED_BYTES_MAX - 4]]).await;
        check(&[b"head", &[b'x'; JOINED_BYTES_MAX - 3]]).await;
        check(&[&[b'x'; 9000], b"end"]).await;
    }
}
