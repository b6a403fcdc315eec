//! Inputs that are in no list: framing fields spelt in every way that a proxy was ever fooled by, in every combination,
//! with bodies cut at will. What would be a second request if a message ended elsewhere is called `/smuggled`, and
//! always stands where the strict reading has a body.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use super::rig::*;

/// How many are tried.
const INPUTS: usize = 300;

const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: reviews\r\n\r\n";

/// A name that another parser might take for one of those that frame a message.
fn name(of: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(of.to_owned()),
        1 => Just(of.to_ascii_uppercase()),
        1 => Just(of.replace('-', "_")),
        1 => Just(format!("{of} ")),
        1 => Just(format!(" {of}")),
        1 => Just(format!("\t{of}")),
        1 => Just(format!("{of}\u{b}")),
        1 => Just(format!("{of}\0")),
        1 => Just(format!("X\r{of}")),
        1 => Just(format!("X: y\n{of}")),
        1 => Just(format!("X: y\r\n {of}")),
        1 => Just(format!("\u{0130}{of}")),
    ]
}

fn separator() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        6 => Just(": "), 2 => Just(":"), 1 => Just(" : "), 1 => Just(":\t"), 1 => Just(":\u{b}"), 1 => Just(":\u{c}"),
        1 => Just(":\r\n "), 1 => Just(":\n"), 1 => Just("::"), 1 => Just(":\0"), 1 => Just("="),
    ]
}

fn coding() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        6 => Just("chunked"), 1 => Just("Chunked"), 1 => Just("identity"), 1 => Just("gzip"), 1 => Just("xchunked"),
        1 => Just("chunked\u{b}"), 1 => Just("\"chunked\""), 1 => Just("chun ked"), 1 => Just("chunke"), 1 => Just(""),
        1 => Just("chunked;q=1"), 1 => Just("\u{ff43}hunked"), 1 => Just("chunked\0"),
    ];
    (word.clone(), proptest::option::weighted(0.3, word))
        .prop_map(|(one, other)| other.map_or(one.to_owned(), |other| format!("{one}, {other}")))
}

fn length(body: usize) -> impl Strategy<Value = String> {
    let other = body.saturating_sub(HIDDEN.len());
    prop_oneof![
        6 => Just(body.to_string()),
        1 => Just(format!("+{body}")),
        1 => Just(format!("0{body}")),
        1 => Just(format!("0x{body:x}")),
        1 => Just(format!("{body}, {other}")),
        1 => Just(format!("{body} {other}")),
        1 => Just(format!("{other}\u{b}")),
        1 => Just(format!("-{other}")),
        1 => Just(format!("{body}.0")),
        1 => Just(String::new()),
        1 => Just(format!("{body:020}")),
        1 => Just(format!("{}", u64::MAX)),
        1 => Just(format!("1844674407370955{}", 1616 + body)),
    ]
}

fn chunk_size(size: usize) -> impl Strategy<Value = String> {
    prop_oneof![
        8 => Just(format!("{size:x}")),
        1 => Just(format!("{size:X};a=b")),
        1 => Just(format!("0x{size:x}")),
        1 => Just(format!("{size:x} ")),
        1 => Just(format!(" {size:x}")),
        1 => Just(format!("{size:x}\n")),
        1 => Just(format!("{size:x};\n")),
        1 => Just(format!("{size:x};\r\r")),
        1 => Just(format!("-{size:x}")),
        1 => Just(format!("{size:x}g")),
        1 => Just(format!("{:0>17}", format!("{size:x}"))),
        1 => Just(format!("f0000000000000000{size:x}")),
        1 => Just(String::new()),
    ]
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![12 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\r\n"), 1 => Just("\0\r\n")]
}

/// A body in chunks that hides a request.
fn chunks() -> impl Strategy<Value = String> {
    let end = prop_oneof![6 => Just("0\r\n\r\n"), 1 => Just("0\r\nX: y\r\n\r\n"), 1 => Just("0\r\n"), 1 => Just("00\n\n"), 1 => Just("")];
    (chunk_size(HIDDEN.len()), line_end(), line_end(), end).prop_map(
        |(size, after_size, after_data, end)| {
            format!("{size}{after_size}{HIDDEN}{after_data}{end}")
        },
    )
}

/// A request whose body, read strictly, hides another one.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => Just("POST /a HTTP/1.1"), 1 => Just("GET /a HTTP/1.1"), 1 => Just("POST /a HTTP/1.0"),
        1 => Just("POST /a?x HTTP/1.1"), 1 => Just("POST http://reviews/a HTTP/1.1"), 1 => Just("POST /a  HTTP/1.1"),
    ];
    let with_length = (name("Content-Length"), separator(), length(HIDDEN.len()))
        .prop_map(|(name, separator, length)| (format!("{name}{separator}{length}"), true));
    let with_coding = (name("Transfer-Encoding"), separator(), coding())
        .prop_map(|(name, separator, coding)| (format!("{name}{separator}{coding}"), false));
    let fields = proptest::collection::vec(prop_oneof![with_length, with_coding], 1..4);
    (line, fields, line_end(), chunks(), any::<bool>()).prop_map(
        |(line, fields, end, chunks, first)| {
            let lines = fields.iter().flat_map(|(field, _)| [field.as_str(), end]);
            let framed: String = lines.collect();
            let by_length = fields
                .first()
                .is_some_and(|(_, by_length)| *by_length == first);
            let body = if by_length { HIDDEN.to_owned() } else { chunks };
            format!("{line}\r\nHost: reviews\r\nConnection: close\r\n{framed}\r\n{body}")
                .into_bytes()
        },
    )
}

/// What is asked of one input.
async fn holds(rig: &Rig, entrance: Entrance, bytes: &[u8]) {
    let what = bytes.escape_ascii().to_string();
    let answer = rig.attack(entrance, bytes).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let reached = rig.backend.take();
    // Whatever reaches the application whole was answered, in its order, and to whom it came from.
    let answered = answer.matches(" 200 OK\r\n").count();
    let targets: Vec<_> = reached
        .iter()
        .map(|reached| reached.target.as_str())
        .collect();
    assert!(targets.len() <= 1, "{what}: {targets:?}");
    assert!(
        !targets.contains(&"/smuggled"),
        "{what}: {targets:?}, {answer}"
    );
    assert_eq!(targets.len(), answered, "{what}: {targets:?}, {answer}");
    if let [reached] = reached.as_slice() {
        // It is what was sent, in one piece.
        let body = &reached.body;
        let is_sent = body.is_empty() || bytes.windows(body.len()).any(|sent| sent == body);
        assert!(is_sent, "{what}: {}", body.escape_ascii());
    } else if answered == 0 && !answer.is_empty() {
        assert!(answer.contains("x-mesh-reason: "), "{what}: {answer}");
    }
}

#[test]
fn no_spelling_of_the_framing_hides_a_request() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (rig, mut victims) = runtime.block_on(async {
        let rig = Rig::start().await;
        let mut victims = Vec::new();
        for entrance in ENTRANCES {
            victims.push(Victim::of(&rig, entrance).await);
        }
        (rig, victims)
    });
    // Others each time; what fails is printed whole.
    let mut runner = TestRunner::new(Config::default());
    let mut at = 0;
    runtime.block_on(async {
        for _ in 0..INPUTS {
            let bytes = hostile().new_tree(&mut runner).unwrap().current();
            let entrance = ENTRANCES[at % ENTRANCES.len()];
            let victim = &mut victims[at % ENTRANCES.len()];
            at += 1;
            holds(&rig, entrance, &bytes).await;
            victim.is_well(&bytes.escape_ascii().to_string()).await;
        }
    });
}
