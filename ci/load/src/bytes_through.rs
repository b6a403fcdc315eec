//! Bytes through as many connections as are wanted, as fast as they are taken.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::report::{Report, Tally};
use crate::{Drive, Failure};

const WRITE_BYTES: usize = 64 << 10;

/// Drives until the time is over.
pub(crate) async fn run(drive: &Drive) -> Result<Report, Failure> {
    let start = Instant::now();
    let until = start + Duration::from_millis(drive.millis);
    let connections: Vec<_> = (0..drive.connections)
        .map(|_| tokio::spawn(connection(drive.clone(), until)))
        .collect();
    let mut tallies = Vec::new();
    for connection in connections {
        let begun = Instant::now();
        let mut tally = Tally::default();
        match connection.await? {
            Ok(bytes) => {
                tally.add(Ok(0), begun.elapsed());
                tally.bytes = bytes;
            }
            Err(failure) => tally.fail(&failure),
        }
        tallies.push(tally);
    }
    Ok(Report::sum(tallies, start))
}

/// The server says at the end how many bytes have come, which is what counts.
async fn connection(drive: Drive, until: Instant) -> Result<u64, Failure> {
    let mut stream = TcpStream::connect(drive.to).await?;
    let block = vec![b'b'; WRITE_BYTES];
    while Instant::now() < until {
        stream.write_all(&block).await?;
    }
    stream.shutdown().await?;
    Ok(stream.read_u64().await?)
}
