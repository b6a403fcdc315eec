//! One of the two that are compared, as a case sees it: requests go in, and what becomes of them comes out.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh_tests::{Failure, Response, http_request};

use crate::backend::{Backend, ID, PLAN, Recorder, Try};

/// Headers that one of the two adds on its way, or the connection needs.
const OWN: [&str; 8] = [
    "host",
    "connection",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
    "traceparent",
    ID,
    PLAN,
];

/// A proxy in front of the endpoints of a case.
#[derive(Debug)]
pub(crate) struct Side<'w> {
    pub(crate) name: &'static str,
    pub(crate) service: &'static str,
    pub(crate) entry: SocketAddr,
    pub(crate) backends: &'w [Backend],
    pub(crate) recorder: &'w Recorder,
    asked: Cell<usize>,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) host: Option<String>,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Ask {
    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self {
            method: "GET",
            host: None,
            target: target.into(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    pub(crate) fn host(self, host: &str) -> Self {
        let host = Some(host.to_owned());
        Self { host, ..self }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// What its tries get.
    pub(crate) fn plan(self, plan: &str) -> Self {
        self.header(PLAN, plan)
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.method)?;
        if let Some(host) = &self.host {
            write!(f, " {host}")?;
        }
        write!(f, " {}", self.target)?;
        for (name, value) in &self.headers {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) answer: Response,
    pub(crate) tries: Vec<Try>,
    pub(crate) took: Duration,
}

impl<'w> Side<'w> {
    pub(crate) fn new(
        name: &'static str,
        service: &'static str,
        entry: SocketAddr,
        backends: &'w [Backend],
        recorder: &'w Recorder,
    ) -> Self {
        Self {
            name,
            service,
            entry,
            backends,
            recorder,
            asked: Cell::new(0),
        }
    }

    pub(crate) fn ask(&self, ask: &Ask) -> Result<Seen, Failure> {
        let (id, began) = (self.id(), Instant::now());
        let answer = self.send(ask, &id)?;
        Ok(Seen {
            answer,
            tries: self.recorder.tries(&id),
            took: began.elapsed(),
        })
    }

    /// The same at once, so many times.
    pub(crate) fn ask_at_once(&self, ask: &Ask, times: usize) -> Result<Vec<Seen>, Failure> {
        let ids: Vec<_> = (0..times).map(|_| self.id()).collect();
        let (entry, host) = (self.entry, self.host(ask));
        let asking: Vec<_> = ids
            .into_iter()
            .map(|id| {
                let (ask, host) = (ask.clone(), host.clone());
                let began = Instant::now();
                let thread = std::thread::spawn(move || {
                    send(entry, &host, &ask, &id).map(|answer| (id, answer, began.elapsed()))
                });
                // In a known order, and all within the time that the first of them takes.
                std::thread::sleep(Duration::from_millis(10));
                thread
            })
            .collect();
        asking
            .into_iter()
            .map(|thread| {
                let ended = thread.join();
                let ended = ended.map_err(|_panic| Failure::new("a client ended"))?;
                let (id, answer, took) = ended?;
                Ok(Seen {
                    answer,
                    tries: self.recorder.tries(&id),
                    took,
                })
            })
            .collect()
    }

    /// What each endpoint was asked so far.
    pub(crate) fn asked(&self) -> Vec<usize> {
        self.backends.iter().map(Backend::asked).collect()
    }

    /// Connections that its endpoints ever had.
    pub(crate) fn accepted(&self) -> usize {
        self.backends.iter().map(Backend::accepted).sum()
    }

    fn id(&self) -> String {
        let number = self.asked.get();
        self.asked.set(number + 1);
        format!("{}-{}-{number}", self.name, self.service)
    }

    fn host(&self, ask: &Ask) -> String {
        let usual = || format!("{}:8080", self.service);
        ask.host.clone().unwrap_or_else(usual)
    }

    fn send(&self, ask: &Ask, id: &str) -> Result<Response, Failure> {
        send(self.entry, &self.host(ask), ask, id)
            .map_err(|failure| failure.while_doing(format_args!("{}: {ask}", self.name)))
    }
}

fn send(entry: SocketAddr, host: &str, ask: &Ask, id: &str) -> Result<Response, Failure> {
    let mut headers: Vec<_> = ask
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    headers.push((ID, id));
    http_request(entry, ask.method, host, &ask.target, &headers)
}

impl Seen {
    /// The status and how often somebody was asked.
    pub(crate) fn counted(&self) -> String {
        format!("{} after {} tries", self.answer.status, self.tries.len())
    }

    /// The status and these headers of the answer.
    pub(crate) fn answered(&self, headers: &[&str]) -> String {
        let mut text = self.answer.status.to_string();
        for name in headers {
            let values = self.values(name);
            if !values.is_empty() {
                text.extend([" ", name, "=", &values.join("|")]);
            }
        }
        text
    }

    fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.answer.head.lines();
        lines
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// What its first try was, as it arrived.
    pub(crate) fn arrived(&self) -> String {
        self.tries
            .first()
            .map_or_else(|| self.answer.status.to_string(), Try::shown)
    }
}

impl Try {
    /// Without what each proxy adds of its own.
    pub(crate) fn shown(&self) -> String {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| !OWN.contains(&name.as_str()))
            .filter(|(name, _)| !name.starts_with("x-mesh-") && !name.starts_with("x-envoy-"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        headers.sort();
        let headers = headers.join(" ");
        format!("{} {} {} {headers}", self.method, self.host, self.target)
            .trim_end()
            .to_owned()
    }

    /// A header of it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    }
}
