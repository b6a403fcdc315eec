//! The bounds that an operator may set, with `--limit NAME=VALUE`; all others are constants.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use mesh_engine::http1::Bounds;
use mesh_engine::limits::IDLE_TIMEOUT;

/// Why a limit cannot be set so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitError {
    /// Not `NAME=VALUE`.
    #[error("is not NAME=VALUE")]
    Shape,
    /// There is none of that name.
    #[error("there is no limit {name}; `meshp run --help` lists them{}", .near.map_or(String::new(), |near| format!(", and one of them is {near}")))]
    Unknown {
        /// As written.
        name: String,
        /// One that may have been meant.
        near: Option<&'static str>,
    },
    /// Another kind of value.
    #[error("{0} is not {1}")]
    Value(String, &'static str),
    /// Nothing works with that.
    #[error("{name} is from {least} to {most}")]
    Range {
        /// Of the limit.
        name: &'static str,
        /// In its own units.
        least: String,
        /// In its own units.
        most: String,
    },
    /// Which of them?
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// Two that do not go together.
    #[error("{0}")]
    Together(&'static str),
}

/// What a limit counts.
pub(crate) trait Unit {
    type Value: Copy + PartialOrd;
    const KIND: &'static str;
    fn parse(text: &str) -> Option<Self::Value>;
    fn show(value: Self::Value) -> String;
}

/// So many of something.
pub(crate) enum Count {}

impl Unit for Count {
    type Value = usize;
    const KIND: &'static str = "a number";
    fn parse(text: &str) -> Option<usize> {
        text.parse().ok()
    }
    fn show(value: usize) -> String {
        value.to_string()
    }
}

/// So many bytes.
pub(crate) enum Size {}

impl Unit for Size {
    type Value = usize;
    const KIND: &'static str = "a number of bytes, with KiB, MiB or GiB";
    fn parse(text: &str) -> Option<usize> {
        let (number, unit) = split(text);
        let shift = match unit {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return None,
        };
        number.parse::<usize>().ok()?.checked_mul(1 << shift)
    }
    fn show(value: usize) -> String {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = |(shift, _): &(u32, _)| value > 0 && value.trailing_zeros() >= *shift;
        match units.into_iter().find(whole) {
            Some((shift, unit)) => format!("{}{unit}", value >> shift),
            None => value.to_string(),
        }
    }
}

/// So long.
pub(crate) enum Time {}

impl Unit for Time {
    type Value = Duration;
    const KIND: &'static str = "a number with ms, s, m or h";
    fn parse(text: &str) -> Option<Duration> {
        crate::args::duration(text).ok()
    }
    fn show(value: Duration) -> String {
        match (value.as_secs(), value.subsec_millis()) {
            (seconds, 0) if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
            (seconds, 0) if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
            (seconds, 0) => format!("{seconds}s"),
            _ => format!("{}ms", value.as_millis()),
        }
    }
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Reads a value of `U` between two others.
fn read<U: Unit>(
    name: &'static str,
    text: &str,
    least: U::Value,
    most: U::Value,
) -> Result<U::Value, LimitError> {
    let value = U::parse(text).ok_or_else(|| LimitError::Value(text.to_owned(), U::KIND))?;
    if value < least || value > most {
        return Err(LimitError::Range {
            name,
            least: U::show(least),
            most: U::show(most),
        });
    }
    Ok(value)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

macro_rules! settable {
    ($($(#[doc = $doc:literal])+ $name:ident: $unit:ident = $default:expr, $least:expr => $most:expr;)*) => {
        /// The bounds that an operator may set.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct Limits {
            $($(#[doc = $doc])+ pub(crate) $name: <$unit as Unit>::Value,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            fn set(&mut self, name: &str, value: &str) -> Result<&'static str, LimitError> {
                match name {
                    $(stringify!($name) => {
                        self.$name = read::<$unit>(stringify!($name), value, $least, $most)?;
                        Ok(stringify!($name))
                    })*
                    _ => Err(LimitError::Unknown {
                        name: name.to_owned(),
                        near: NAMES.into_iter().find(|known| {
                            known.contains(name) || name.contains(known)
                        }),
                    }),
                }
            }

            /// All of them, as they would be written.
            pub(crate) fn shown(&self) -> BTreeMap<&'static str, String> {
                BTreeMap::from([$((stringify!($name), <$unit as Unit>::show(self.$name)),)*])
            }
        }

        const NAMES: [&str; [$(stringify!($name)),*].len()] = [$(stringify!($name)),*];

        /// Of each limit its name, what it bounds, its default, and the least and most that it can be.
        fn described() -> Vec<(&'static str, String, [String; 3])> {
            vec![$((
                stringify!($name),
                concat!($($doc),+).trim().to_owned(),
                [$default, $least, $most].map(<$unit as Unit>::show),
            ),)*]
        }
    };
}

settable! {
    /// connections that one direction has at once; fewer where file descriptors are few
    connections: Count = 10_000, 1 => 1_000_000;
    /// memory of the process, near to which nothing new is begun; 0 for what its cgroup may have
    memory_bytes: Size = 0, 0 => 1 << 40;
    /// TLS handshakes that are done at once as a server; the next wait their turn
    handshakes: Count = 256, 1 => 100_000;
    /// requests and connections of bytes that run over both directions; the next are shed
    requests: Count = 20_000, 1 => 1_000_000;
    /// proxies of callers that one request passes, so that one that goes round and round ends
    hops: Count = 32, 2 => 1_000;
    /// a head, request line included
    head_bytes: Size = 64 << 10, 4 << 10 => 1 << 20;
    /// the fields of a head
    fields: Count = 100, 10 => 100;
    /// the target of a request
    target_bytes: Size = 8 << 10, 256 => 64 << 10;
    /// the trailers of a request, all lines together
    trailer_bytes: Size = 16 << 10, 256 => 16 << 10;
    /// from accept until the protocol is known
    first_byte_timeout: Time = seconds(10), Duration::from_millis(100) => seconds(600);
    /// how long a permissive port of bytes waits for a peer to speak; a mesh peer does so at once, and an application that greets its clients is kept waiting by so much
    silent_peer_timeout: Time = seconds(1), Duration::from_millis(50) => seconds(60);
    /// until a peer has said hello
    hello_timeout: Time = seconds(10), Duration::from_millis(100) => seconds(600);
    /// the rest of a TLS handshake as a server, once it is its turn
    handshake_timeout: Time = seconds(3), Duration::from_millis(100) => seconds(600);
    /// from the first byte of an HTTP/1 head to its last
    head_timeout: Time = seconds(10), Duration::from_millis(100) => seconds(600);
    /// silence within a body of HTTP/1
    body_idle_timeout: Time = seconds(60), Duration::from_millis(100) => seconds(24 * 3600);
    /// how long a client of HTTP/1 may take nothing of what is written to it
    write_stall_timeout: Time = seconds(60), Duration::from_millis(100) => seconds(24 * 3600);
    /// silence of a connection of HTTP between requests
    idle_timeout: Time = IDLE_TIMEOUT, Duration::from_millis(100) => seconds(24 * 3600);
    /// silence of a connection of bytes where policy says nothing
    bytes_idle_timeout: Time = seconds(3600), Duration::from_millis(100) => seconds(30 * 24 * 3600);
    /// streams that a peer may have open on one HTTP/2 connection
    streams: Count = 256, 1 => 100_000;
    /// the window of an HTTP/2 stream
    stream_window_bytes: Size = 128 << 10, 64 << 10 => 1 << 30;
    /// the window of an HTTP/2 connection
    connection_window_bytes: Size = 1 << 20, 64 << 10 => 1 << 30;
    /// what is buffered for one HTTP/2 stream that its reader does not take
    stream_buffer_bytes: Size = 64 << 10, 1 << 10 => 1 << 30;
    /// PING, SETTINGS and PRIORITY frames that a peer may send in ten seconds
    control_frames: Count = 200, 10 => 1_000_000;
    /// streams that are reset for a peer's errors before its connection ends
    local_resets: Count = 256, 1 => 100_000;
    /// streams that a peer may reset before they were taken, besides all that it may have open
    pending_resets: Count = 32, 1 => 100_000;
    /// silence after which an HTTP/2 peer is sent a PING
    ping_every: Time = seconds(10), Duration::from_millis(100) => seconds(3600);
    /// how long the answer to a PING may take
    ping_timeout: Time = seconds(15), Duration::from_millis(100) => seconds(3600);
    /// unused HTTP/1 connections that are kept to one endpoint
    pool_idle: Count = 64, 0 => 100_000;
    /// HTTP/2 connections to one endpoint
    pool_connections: Count = 4, 1 => 1_000;
    /// requests that are put on one HTTP/2 connection before another is opened
    pool_streams: Count = 100, 1 => 100_000;
    /// lines that wait for the writer of the access log; further ones are dropped
    access_log_lines: Count = 4_096, 1 => 1_000_000;
    /// hops of traces that wait to be sent; further ones are dropped
    spans: Count = 2_048, 1 => 1_000_000;
}

/// One limit, as an argument has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    name: String,
    value: String,
}

impl Setting {
    /// Reads `NAME=VALUE`.
    pub(crate) fn parse(text: &str) -> Result<Self, LimitError> {
        let (name, value) = text.split_once('=').ok_or(LimitError::Shape)?;
        Limits::default().set(name, value)?;
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl Limits {
    /// The defaults but for what was set.
    pub(crate) fn with(settings: &[Setting]) -> Result<Self, LimitError> {
        let mut limits = Self::default();
        let mut given = Vec::new();
        for Setting { name, value } in settings {
            let name = limits.set(name, value)?;
            if given.contains(&name) {
                return Err(LimitError::Twice(name));
            }
            given.push(name);
        }
        let checks = [
            (
                limits.target_bytes >= limits.head_bytes,
                "target_bytes must be less than head_bytes: a target is a part of a head",
            ),
            (
                limits.idle_timeout <= super::POOL_IDLE_TIMEOUT && given.contains(&"idle_timeout"),
                "idle_timeout must be more than 45s, or the calling proxy would use connections that are about to end",
            ),
            (
                limits.stream_window_bytes > limits.connection_window_bytes,
                "stream_window_bytes must not be more than connection_window_bytes",
            ),
        ];
        match checks.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(LimitError::Together(why)),
            None => Ok(limits),
        }
    }

    /// Those of the bytes of HTTP/1.
    pub(crate) fn http1(&self) -> Bounds {
        Bounds {
            head_bytes: self.head_bytes,
            target_bytes: self.target_bytes,
            fields: self.fields,
            trailer_bytes: self.trailer_bytes,
        }
    }
}

/// What the help says of `--limit`.
pub(crate) fn help() -> String {
    let mut text = "A bound of the proxy; repeatable. Which were met is counted in mesh_limits_reached_total.\n".to_owned();
    for (name, meaning, [default, least, most]) in described() {
        // Writing to a string does not fail.
        let _written = write!(text, "\n  {name}={default}  {meaning} [{least} to {most}]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[&str]) -> Result<Limits, LimitError> {
        let settings: Result<Vec<_>, _> =
            settings.iter().map(|text| Setting::parse(text)).collect();
        Limits::with(&settings?)
    }

    #[test]
    fn values_have_units() {
        let limits = with(&["head_timeout=1500ms", "head_bytes=128KiB", "streams=10"]).unwrap();
        assert_eq!(limits.head_timeout, Duration::from_millis(1500));
        assert_eq!((limits.head_bytes, limits.streams), (131_072, 10));
        let shown = limits.shown();
        assert_eq!(shown["head_timeout"], "1500ms");
        assert_eq!(shown["head_bytes"], "128KiB");
        assert_eq!(shown["idle_timeout"], "1m");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (setting, expected) in [
            ("streams", "is not NAME=VALUE"),
            (
                "stream=1",
                "there is no limit stream; `meshp run --help` lists them, and one of them is streams",
            ),
            ("x=1", "there is no limit x; `meshp run --help` lists them"),
            ("streams=many", "many is not a number"),
            ("streams=0", "streams is from 1 to 100000"),
            (
                "head_bytes=1MB",
                "1MB is not a number of bytes, with KiB, MiB or GiB",
            ),
            (
                "head_bytes=99999999999999999999KiB",
                "99999999999999999999KiB is not a number of bytes, with KiB, MiB or GiB",
            ),
            ("head_timeout=10", "10 is not a number with ms, s, m or h"),
            ("head_timeout=1ms", "head_timeout is from 100ms to 10m"),
        ] {
            assert_eq!(with(&[setting]).unwrap_err().to_string(), expected);
        }
        let two = |one, other| with(&[one, other]).unwrap_err();
        assert_eq!(two("streams=1", "streams=2"), LimitError::Twice("streams"));
        let error = two("head_bytes=4KiB", "target_bytes=8KiB");
        assert!(matches!(error, LimitError::Together(_)), "{error}");
        assert!(matches!(
            with(&["idle_timeout=45s"]),
            Err(LimitError::Together(_))
        ));
    }

    /// What is shown can be given back.
    #[test]
    fn defaults_are_within_their_own_bounds() {
        for (name, value) in Limits::default().shown() {
            assert!(Setting::parse(&format!("{name}={value}")).is_ok(), "{name}");
        }
        assert_eq!(with(&[]).unwrap(), Limits::default());
    }
}
