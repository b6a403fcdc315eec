//! How long the name servers say that the addresses of a name hold. What they answer decides nothing else,
//! so that a forged answer could at most have a name asked for sooner or later, within bounds.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use resolv_conf::Config;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::limits;

/// Where the system's name servers are.
const CONFIG: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// The least of what is said of a name and what it leads to; none: it is not of the name servers.
pub(super) async fn of(name: &str) -> Option<Duration> {
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let config = config(Path::new(CONFIG))?;
    let servers = config.nameservers.iter().take(limits::DNS_SERVERS_MAX);
    let servers: Vec<_> = servers
        .map(|server| SocketAddr::new(server.into(), PORT))
        .collect();
    ask_all(&servers, &candidates(name, &config)).await
}

fn config(file: &Path) -> Option<Config> {
    let bytes = std::fs::read(file).ok()?;
    let (config, _left_out) = Config::parse_with_errors(&bytes);
    Some(config)
}

/// The names that a name may stand for, in the order in which they are looked for (resolv.conf(5)).
fn candidates(name: &str, config: &Config) -> Vec<String> {
    if let Some(absolute) = name.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let searched = config.get_last_search_or_domain();
    let searched = searched.map(|domain| format!("{name}.{}", domain.trim_end_matches('.')));
    let mut candidates: Vec<_> = searched.take(limits::DNS_SEARCH_MAX).collect();
    let dots = name.bytes().filter(|byte| *byte == b'.').count();
    let absolute_first = u32::try_from(dots).is_ok_and(|dots| dots >= config.ndots);
    let at = if absolute_first { 0 } else { candidates.len() };
    candidates.insert(at, name.to_owned());
    candidates
}

/// What the first server that knows the first of these names says.
async fn ask_all(servers: &[SocketAddr], names: &[String]) -> Option<Duration> {
    for server in servers {
        for name in names {
            let asking =
                async { tokio::join!(ask(*server, name, TYPE::A), ask(*server, name, TYPE::AAAA)) };
            let Ok((v4, v6)) = timeout(limits::DNS_QUERY_TIMEOUT, asking).await else {
                break;
            };
            match (v4, v6) {
                (Ok(None), Ok(None)) => {}
                (Err(_), Err(_)) => break,
                (v4, v6) => {
                    let said = [v4, v6].into_iter().flatten().flatten();
                    if let Some(least) = said.min() {
                        return Some(least);
                    }
                }
            }
        }
    }
    None
}

/// One question. `Ok(None)`: there is no such name, or nothing of that kind.
async fn ask(server: SocketAddr, name: &str, kind: TYPE) -> io::Result<Option<Duration>> {
    let unusable = |error: simple_dns::SimpleDnsError| io::Error::other(error.to_string());
    let id = fastrand::u16(..);
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let question = Name::new(name).map_err(unusable)?;
    query.questions.push(Question::new(
        question,
        kind.into(),
        CLASS::IN.into(),
        false,
    ));
    let query = query.build_bytes_vec().map_err(unusable)?;
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).await?;
    // From nobody else is anything taken.
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut answer = vec![0; limits::DNS_ANSWER_BYTES_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        // Whatever is not the answer is not waited for any longer than it.
        if let Ok(read) = read(answer.get(..length).unwrap_or_default(), id) {
            return Ok(read);
        }
    }
}

/// It does not answer our question.
#[derive(Debug, PartialEq, Eq)]
struct NotOurs;

/// What an answer says; none: there is no such name, or nothing of that kind.
fn read(answer: &[u8], id: u16) -> Result<Option<Duration>, NotOurs> {
    // Counts of records come before the records, and room is made for as many.
    let counts = answer.get(4..12).ok_or(NotOurs)?.chunks(2);
    let counts = counts.map(|count| {
        count
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    });
    if counts.sum::<usize>() > limits::DNS_RECORDS_MAX {
        return Err(NotOurs);
    }
    let packet = Packet::parse(answer).map_err(|_malformed| NotOurs)?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return Err(NotOurs);
    }
    if packet.rcode() != RCODE::NoError {
        return Ok(None);
    }
    let least = packet.answers.iter().map(|record| record.ttl).min();
    Ok(least.map(|seconds| Duration::from_secs(seconds.into())))
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME, RData};

    use super::*;

    fn parsed(text: &str) -> Config {
        Config::parse_with_errors(text.as_bytes()).0
    }

    #[test]
    fn short_names_are_looked_for_in_the_search_list() {
        let config = parsed("nameserver 10.0.0.2\nsearch a.svc svc\noptions ndots:2\n");
        let found = |name: &str| candidates(name, &config);
        assert_eq!(found("db"), ["db.a.svc", "db.svc", "db"]);
        assert_eq!(found("db.b.c"), ["db.b.c", "db.b.c.a.svc", "db.b.c.svc"]);
        assert_eq!(found("db.b."), ["db.b"]);
    }

    /// A name server that knows one name, which leads to another.
    async fn server(known: &'static str) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                let query = Packet::parse(&bytes[..length]).unwrap();
                // Somebody else's answer comes first.
                let other = Packet::new_reply(query.id().wrapping_add(1));
                socket
                    .send_to(&other.build_bytes_vec().unwrap(), from)
                    .await
                    .unwrap();
                let mut reply = Packet::new_reply(query.id());
                let asked = query.questions[0].clone();
                if asked.qname.to_string() != known {
                    *reply.rcode_mut() = RCODE::NameError;
                } else if asked.qtype == TYPE::A.into() {
                    let other = Name::new_unchecked("other.example");
                    let leads = RData::CNAME(CNAME(other.clone()));
                    let is = RData::A(A { address: 7 });
                    let records = [(asked.qname.clone(), 300, leads), (other, 20, is)];
                    for (name, ttl, data) in records {
                        reply
                            .answers
                            .push(ResourceRecord::new(name, CLASS::IN, ttl, data));
                    }
                }
                reply.questions.push(asked);
                socket
                    .send_to(&reply.build_bytes_vec().unwrap(), from)
                    .await
                    .unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn the_least_on_the_way_counts() {
        let server = server("db.shop.example").await;
        let names = ["db", "db.shop.example"].map(str::to_owned);
        assert_eq!(
            ask_all(&[server], &names).await,
            Some(Duration::from_secs(20))
        );
        assert_eq!(ask_all(&[server], &names[..1]).await, None);
        // One that does not answer is passed over.
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let gone = silent.local_addr().unwrap();
        drop(silent);
        assert_eq!(
            ask_all(&[gone, server], &names).await,
            Some(Duration::from_secs(20))
        );
    }

    #[test]
    fn no_room_is_made_for_what_is_only_promised() {
        let mut answer = Packet::new_reply(7).build_bytes_vec().unwrap();
        assert_eq!(read(&answer, 7), Ok(None));
        assert_eq!(read(&answer, 8), Err(NotOurs));
        answer[6..8].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(read(&answer, 7), Err(NotOurs));
        for end in 0..answer.len() {
            assert_eq!(read(&answer[..end], 7), Err(NotOurs));
        }
    }
}
