//! Requests that are due at moments of their own, whether or not answers come: what a slow answer delays
//! counts for those that it delays, too. Threads, for their sleeps are finer than a timer wheel's.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::http1;
use crate::report::{Report, Tally};
use crate::{Drive, Failure};

const READ_BYTES: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel may let a sleep be longer by this much.
const SLACK_NANOS: u64 = 1000;

/// Drives until the time is over.
pub(crate) fn run(drive: &Drive, rate: f64) -> Result<Report, Failure> {
    let start = Instant::now() + Duration::from_millis(20);
    #[expect(clippy::cast_precision_loss, reason = "there are few connections")]
    let every = Duration::try_from_secs_f64(drive.connections as f64 / rate)?;
    let threads: Vec<_> = (0..drive.connections)
        .map(|number| {
            let drive = drive.clone();
            let share = u32::try_from(number).unwrap_or_default();
            let first = start + every * share / u32::try_from(drive.connections).unwrap_or(1);
            thread::spawn(move || connection(&drive, first, every))
        })
        .collect();
    let mut tallies = Vec::new();
    for thread in threads {
        tallies.push(thread.join().map_err(|_panic| "a connection panicked")?);
    }
    Ok(Report::sum(tallies, start))
}

fn connection(drive: &Drive, first: Instant, every: Duration) -> Tally {
    let mut tally = Tally::default();
    if let Err(failure) = send_all(drive, first, every, &mut tally) {
        tally.fail(&failure);
    }
    tally
}

fn send_all(
    drive: &Drive,
    first: Instant,
    every: Duration,
    tally: &mut Tally,
) -> Result<(), Failure> {
    nix::sys::prctl::set_timerslack(SLACK_NANOS)?;
    let requests = http1::requests(drive);
    let mut stream = TcpStream::connect(drive.to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut buffer = vec![0; READ_BYTES];
    let until = first + Duration::from_millis(drive.millis);
    let mut due = first;
    let mut turn = 0;
    while due < until {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(
            requests
                .get(turn % requests.len())
                .map_or(&[][..], Vec::as_slice),
        )?;
        let bytes = answer(&mut stream, &mut buffer)?;
        tally.add(Ok(bytes), due.elapsed());
        due += every;
        turn += 1;
    }
    Ok(())
}

fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, Failure> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
        if read == 0 {
            return Err("the connection ended within an answer".into());
        }
        filled += read;
        if let Some((head, length)) = http1::head(buffer.get(..filled).unwrap_or_default())?
            && filled >= head + length
        {
            return Ok(length);
        }
    }
}
