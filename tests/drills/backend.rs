//! An application that fails when it is told to, and counts what it is asked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh_tests::Failure;

/// A running application.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    status: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Backend {
    /// One that answers 200.
    pub(crate) fn start() -> Result<Self, Failure> {
        let status = Arc::new(AtomicUsize::new(200));
        let told = Arc::clone(&status);
        Self::answering(move || told.load(Ordering::SeqCst))
            .map(|backend| Self { status, ..backend })
    }

    /// One whose answers are worked out when it is asked.
    pub(crate) fn answering(
        answer: impl Fn() -> usize + Clone + Send + 'static,
    ) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let backend = Self {
            address: listener.local_addr()?,
            status: Arc::default(),
            asked: Arc::default(),
        };
        let asked = Arc::clone(&backend.asked);
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let (answer, asked) = (answer.clone(), Arc::clone(&asked));
                // What a peer does to a connection is no failure of this one.
                std::thread::spawn(move || drop(serve(&tcp, &answer, &asked)));
            }
        });
        Ok(backend)
    }

    /// Has it answer with this status.
    pub(crate) fn tell(&self, status: usize) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Requests that it got.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Requests without bodies, one after the other.
fn serve(tcp: &TcpStream, answer: &impl Fn() -> usize, asked: &AtomicUsize) -> Result<(), Failure> {
    let mut io = tcp;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match io.read(&mut buffer)? {
            0 => return Ok(()),
            read => head.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        asked.fetch_add(1, Ordering::SeqCst);
        let status = answer();
        write!(
            io,
            "HTTP/1.1 {status} Told\r\nContent-Length: 3\r\n\r\nok\n"
        )?;
    }
}

/// Asks so many times a second for so long, from several threads; gives the statuses, in order of their ends.
pub(crate) fn load(
    to: SocketAddr,
    host: &'static str,
    per_second: u32,
    lasts: Duration,
) -> Result<Vec<u16>, Failure> {
    const THREADS: u32 = 8;
    let pause = Duration::from_secs(1) * THREADS / per_second;
    let began = std::time::Instant::now();
    let asking: Vec<_> = (0..THREADS)
        .map(|thread| {
            std::thread::spawn(move || -> Result<Vec<(Duration, u16)>, String> {
                let mut ended = Vec::new();
                let mut due = pause * thread / THREADS;
                while due < lasts {
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                    let answer = mesh_tests::http_get(to, host, "/", &[])
                        .map_err(|failure| failure.to_string())?;
                    ended.push((began.elapsed(), answer.status));
                    due += pause;
                }
                Ok(ended)
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in asking {
        let ended = thread
            .join()
            .map_err(|_panic| Failure::new("a thread of the load ended"))?;
        all.extend(ended.map_err(Failure::new)?);
    }
    all.sort_unstable();
    Ok(all.into_iter().map(|(_, status)| status).collect())
}
