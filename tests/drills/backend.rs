//! An application that fails or tarries when it is told to, goes when it is told to, and counts what it is asked.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_tests::Failure;

/// A running application.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    status: Arc<AtomicUsize>,
    counts: Arc<Counts>,
}

/// What is known of it outside.
#[derive(Debug, Default)]
struct Counts {
    asked: AtomicUsize,
    accepted: AtomicUsize,
    open: AtomicUsize,
    delay_ms: AtomicU64,
    is_gone: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Backend {
    /// One that answers 200.
    pub(crate) fn start() -> Result<Self, Failure> {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same at a given address.
    pub(crate) fn at(address: SocketAddr) -> Result<Self, Failure> {
        let status = Arc::new(AtomicUsize::new(200));
        let told = Arc::clone(&status);
        Self::listening(address, move || told.load(Ordering::SeqCst))
            .map(|backend| Self { status, ..backend })
    }

    /// One whose answers are worked out when it is asked.
    pub(crate) fn answering(
        answer: impl Fn() -> usize + Clone + Send + 'static,
    ) -> Result<Self, Failure> {
        Self::listening(SocketAddr::from(([127, 0, 0, 1], 0)), answer)
    }

    fn listening(
        address: SocketAddr,
        answer: impl Fn() -> usize + Clone + Send + 'static,
    ) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address)?;
        let backend = Self {
            address: listener.local_addr()?,
            status: Arc::default(),
            counts: Arc::default(),
        };
        let counts = Arc::clone(&backend.counts);
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                if counts.is_gone.load(Ordering::SeqCst) {
                    return;
                }
                counts.accepted.fetch_add(1, Ordering::SeqCst);
                counts.open.fetch_add(1, Ordering::SeqCst);
                if let Ok(other) = tcp.try_clone() {
                    counts.connections().push(other);
                }
                let (answer, counts) = (answer.clone(), Arc::clone(&counts));
                std::thread::spawn(move || {
                    // What a peer does to a connection is no failure of this one.
                    drop(serve(&tcp, &answer, &counts));
                    // The clone that is kept would hold it open.
                    drop(tcp.shutdown(Shutdown::Both));
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(backend)
    }

    /// Has it answer with this status.
    pub(crate) fn tell(&self, status: usize) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Has it think for so long before each answer.
    pub(crate) fn tarry(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.counts.delay_ms.store(delay, Ordering::SeqCst);
    }

    /// It goes, as one does that is asked to: nobody listens any more, and its connections end once what they brought is
    /// answered.
    pub(crate) fn stop(&self) {
        self.counts.is_gone.store(true, Ordering::SeqCst);
        // The thread that accepts looks when somebody comes.
        drop(TcpStream::connect(self.address));
        for connection in self.counts.connections().drain(..) {
            drop(connection.shutdown(Shutdown::Read));
        }
    }

    /// Requests that it got.
    pub(crate) fn asked(&self) -> usize {
        self.counts.asked.load(Ordering::SeqCst)
    }

    /// Connections that it ever had.
    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// Connections that it has.
    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }
}

impl Counts {
    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        // Whoever held it last left a whole list behind.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests without bodies, one after the other.
fn serve(tcp: &TcpStream, answer: &impl Fn() -> usize, counts: &Counts) -> Result<(), Failure> {
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
        counts.asked.fetch_add(1, Ordering::SeqCst);
        let delay = counts.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            std::thread::sleep(Duration::from_millis(delay));
        }
        let status = answer();
        // In one piece, or the rest of it waits for the first to be acknowledged.
        let answer = format!("HTTP/1.1 {status} Told\r\nContent-Length: 3\r\n\r\nok\n");
        io.write_all(answer.as_bytes())?;
    }
}

/// Asks so many times a second for so long, from several threads; gives the statuses, in order of their ends.
pub(crate) fn load(
    to: SocketAddr,
    host: &'static str,
    path: &'static str,
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
                    let answer = mesh_tests::http_get(to, host, path, &[])
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
