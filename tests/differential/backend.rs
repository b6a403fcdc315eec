//! Applications that do what a request asks of them, try by try, and write down what they saw.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_tests::Failure;

/// Names a request, through all its tries.
pub(crate) const ID: &str = "x-id";
/// What its tries get, one after the other: `200`, `503`, `late-300` (milliseconds), `reset`, `hang`.
pub(crate) const PLAN: &str = "x-plan";
/// As long as nobody waits for.
const HANGS: Duration = Duration::from_secs(5);

/// One try, as an application saw it.
#[derive(Clone, Debug)]
pub(crate) struct Try {
    /// Which of all endpoints of the case.
    pub(crate) endpoint: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// What was seen, by request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<BTreeMap<String, Vec<Try>>>>);

impl Recorder {
    /// The tries of a request so far.
    pub(crate) fn tries(&self, id: &str) -> Vec<Try> {
        self.all().get(id).cloned().unwrap_or_default()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Try>>> {
        // Whoever held it last left a whole map behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a try, and says what number it has.
    fn note(&self, id: &str, one: Try) -> usize {
        let mut all = self.all();
        let tries = all.entry(id.to_owned()).or_default();
        tries.push(one);
        tries.len() - 1
    }
}

/// What an endpoint does whatever is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// As it is asked.
    Obliging,
    /// Always this status, to checks of its health too.
    Failing(u16),
    /// As it is asked, after so many milliseconds.
    Slow(u64),
    /// Nobody listens.
    Absent,
}

/// A running endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) group: &'static str,
    asked: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

impl Backend {
    pub(crate) fn start(
        group: &'static str,
        endpoint: usize,
        nature: Nature,
        recorder: &Recorder,
    ) -> Result<Self, Failure> {
        if nature == Nature::Absent {
            return Ok(Self {
                address: mesh_tests::loopback::free()?,
                group,
                asked: Arc::default(),
                accepted: Arc::default(),
            });
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let backend = Self {
            address: listener.local_addr()?,
            group,
            asked: Arc::default(),
            accepted: Arc::default(),
        };
        let (asked, recorder) = (Arc::clone(&backend.asked), recorder.clone());
        let accepted = Arc::clone(&backend.accepted);
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                accepted.fetch_add(1, Ordering::SeqCst);
                let place = Place {
                    group,
                    endpoint,
                    nature,
                    asked: Arc::clone(&asked),
                    recorder: recorder.clone(),
                };
                // What a peer does to a connection is no failure of this one.
                std::thread::spawn(move || drop(place.serve(&tcp)));
            }
        });
        Ok(backend)
    }

    /// Requests that it got, checks of its health aside.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Connections that it ever had.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

struct Place {
    group: &'static str,
    endpoint: usize,
    nature: Nature,
    asked: Arc<AtomicUsize>,
    recorder: Recorder,
}

impl Place {
    fn serve(&self, tcp: &TcpStream) -> Result<(), Failure> {
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
            let text = String::from_utf8_lossy(&head).into_owned();
            head.clear();
            let step = self.step(&text);
            let status = match step.as_str() {
                "reset" => {
                    socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO))?;
                    return Ok(());
                }
                "hang" => {
                    tcp.set_read_timeout(Some(HANGS))?;
                    // Whoever does not wait any longer goes.
                    drop(io.read(&mut buffer));
                    return Ok(());
                }
                late if late.starts_with("late-") => {
                    let time = late.trim_start_matches("late-").parse()?;
                    std::thread::sleep(Duration::from_millis(time));
                    200
                }
                status => status.parse()?,
            };
            if let Nature::Slow(time) = self.nature {
                std::thread::sleep(Duration::from_millis(time));
            }
            let (group, endpoint) = (self.group, self.endpoint);
            let body = if text.starts_with("HEAD ") {
                ""
            } else {
                "ok\n"
            };
            // In one piece, or the rest of it waits for the first to be acknowledged.
            let answer = format!(
                "HTTP/1.1 {status} Planned\r\nX-Group: {group}\r\nX-Endpoint: {endpoint}\r\nX-Stack: secret\r\nContent-Length: 3\r\n\r\n{body}"
            );
            io.write_all(answer.as_bytes())?;
        }
    }

    /// What this request gets.
    fn step(&self, head: &str) -> String {
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (method, target) = (word(), word());
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let value = |name: &str| {
            let mut found = headers.iter().filter(|(key, _)| key == name);
            found.next().map(|(_, value)| value.clone())
        };
        let own = match self.nature {
            Nature::Failing(status) => Some(status.to_string()),
            _ => None,
        };
        let Some(id) = value(ID) else {
            // A check of its health.
            return own.unwrap_or_else(|| "200".to_owned());
        };
        self.asked.fetch_add(1, Ordering::SeqCst);
        let plan = value(PLAN).unwrap_or_default();
        let host = value("host").unwrap_or_default();
        let number = self.recorder.note(
            &id,
            Try {
                endpoint: self.endpoint,
                method,
                target,
                host,
                headers,
            },
        );
        let mut steps = plan.split(',').filter(|step| !step.is_empty());
        let step = steps.nth(number).unwrap_or("200");
        own.unwrap_or_else(|| step.to_owned())
    }
}
