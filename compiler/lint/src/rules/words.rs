//! Numbers and lists as findings say them.

use std::time::Duration;

use mesh_bundle::slice::Protocol;

/// `` `a` ``, `` `a` and `b` ``, `` `a`, `b` and `c` ``.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `once`, `3 times`.
pub(crate) fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}

/// `1 call`, `27 calls`.
pub(crate) fn calls(count: f64) -> String {
    match number(count).as_str() {
        "1" => "1 call".to_owned(),
        count => format!("{count} calls"),
    }
}

/// The word for a protocol, as policy files write it.
pub(crate) const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
        Protocol::Tls => "tls",
    }
}

/// `64KiB`, as policy files write it.
pub(crate) fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    match bytes {
        bytes if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{}MiB", bytes / MIB),
        bytes if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        bytes => format!("{bytes}B"),
    }
}

/// At most two digits after the point, and none that are zero.
pub(crate) fn number(value: f64) -> String {
    let rounded = format!("{value:.2}");
    let trimmed = rounded.trim_end_matches('0').trim_end_matches('.');
    trimmed.to_owned()
}

/// `2s`, `300ms`, as policy files write it.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 || duration.as_secs() >= 10 {
        format!("{}s", number(duration.as_secs_f64()))
    } else {
        format!("{}ms", duration.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_well() {
        assert_eq!(list(["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!([27.0, 1.728, 2.5].map(number), ["27", "1.73", "2.5"]);
        assert_eq!([1.0, 27.0].map(calls), ["1 call", "27 calls"]);
        assert_eq!(seconds(Duration::from_millis(1500)), "1500ms");
        assert_eq!(seconds(Duration::from_secs(2)), "2s");
    }
}
