//! The name that a TLS client asks for, read from its first message as it comes in pieces and without answering it.
//! What the client offers is between it and the application: nothing here judges it.
//!
//! RFC 8446 §4.1.2 (`ClientHello`), §5.1 (records), RFC 6066 §3 (`server_name`).

use crate::host;
use crate::limits;

/// First byte of a record that carries a handshake.
pub const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
/// RFC 8446 §5.1.
const RECORD_BYTES_MAX: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// RFC 7301 §3.1.
const PROTOCOLS: u16 = 16;

/// What is known of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host that it asks for, normalised; `None`: it asks for none.
    pub server_name: Option<String>,
    /// The protocols that it offers, most wanted first.
    pub protocols: Vec<Vec<u8>>,
}

/// Why what comes is no `ClientHello`, or none that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Another protocol.
    #[error("this is not TLS")]
    NotTls,
    /// Longer than any.
    #[error("the first message is too long")]
    TooLong,
    /// A length that does not fit.
    #[error("the first message is malformed")]
    Malformed,
    /// A name that no host has.
    #[error("the server name is no host")]
    ServerName,
}

/// Reads a `ClientHello` piece by piece; each byte is looked at once, and once more when all are there.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Header of the record that comes, as far as it is there.
    header: Vec<u8>,
    /// Bytes of the record that are still to come.
    record: usize,
    message: Vec<u8>,
    read: usize,
}

impl HelloReader {
    /// Reads on; `None`: more is needed.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
        while !bytes.is_empty() {
            if self.record == 0 {
                bytes = self.record_header(bytes)?;
                continue;
            }
            let (now, later) = bytes.split_at(self.take(self.record.min(bytes.len()))?);
            self.record -= now.len();
            self.message.extend_from_slice(now);
            bytes = later;
            if let Some(body) = body(&self.message)? {
                return client_hello(body).map(Some);
            }
        }
        Ok(None)
    }

    fn record_header<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], HelloError> {
        let missing = RECORD_HEADER - self.header.len();
        let (now, later) = bytes.split_at(self.take(missing.min(bytes.len()))?);
        self.header.extend_from_slice(now);
        let wrong = match *self.header {
            [] | [HANDSHAKE_RECORD] | [HANDSHAKE_RECORD, 3, ..] => None,
            _ => Some(HelloError::NotTls),
        };
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        if let [_, _, _, high, low] = *self.header {
            self.record = usize::from(u16::from_be_bytes([high, low]));
            if self.record == 0 || self.record > RECORD_BYTES_MAX {
                return Err(HelloError::Malformed);
            }
            self.header.clear();
        }
        Ok(later)
    }

    /// How many of so many bytes are read now. Headers count too: a message in records of one byte each is no
    /// way around the bound.
    fn take(&mut self, bytes: usize) -> Result<usize, HelloError> {
        let room = limits::CLIENT_HELLO_BYTES_MAX - self.read;
        if room == 0 {
            return Err(HelloError::TooLong);
        }
        let now = bytes.min(room);
        self.read += now;
        Ok(now)
    }
}

/// The body of the message, once it is whole.
fn body(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    match message.first() {
        Some(&CLIENT_HELLO) | None => {}
        Some(_) => return Err(HelloError::NotTls),
    }
    let Some(&[_, high, middle, low]) = message.first_chunk::<MESSAGE_HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, high, middle, low]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limits::CLIENT_HELLO_BYTES_MAX {
        return Err(HelloError::TooLong);
    }
    Ok(message.get(MESSAGE_HEADER..MESSAGE_HEADER + length))
}

fn client_hello(body: &[u8]) -> Result<ClientHello, HelloError> {
    let mut rest = Fields(body);
    // Version and random.
    rest.take(2 + 32)?;
    let _session = rest.short()?;
    let _ciphers = rest.long()?;
    let _compressions = rest.short()?;
    let mut hello = ClientHello::default();
    if rest.is_empty() {
        // RFC 5246 §7.4.1.2: extensions may be left out.
        return Ok(hello);
    }
    let mut extensions = Fields(rest.long()?);
    if !rest.is_empty() {
        return Err(HelloError::Malformed);
    }
    let (mut seen, mut seen_protocols) = (false, false);
    while !extensions.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.long()?;
        if kind == PROTOCOLS {
            if std::mem::replace(&mut seen_protocols, true) {
                return Err(HelloError::Malformed);
            }
            hello.protocols = protocols(content)?;
        }
        if kind != SERVER_NAME {
            continue;
        }
        if std::mem::replace(&mut seen, true) {
            return Err(HelloError::Malformed);
        }
        hello.server_name = Some(server_name(content)?);
    }
    Ok(hello)
}

fn protocols(extension: &[u8]) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut extension = Fields(extension);
    let mut names = Fields(extension.long()?);
    let mut protocols = Vec::new();
    while !names.is_empty() {
        let name = names.short()?;
        if name.is_empty() {
            return Err(HelloError::Malformed);
        }
        protocols.push(name.to_vec());
    }
    if protocols.is_empty() || !extension.is_empty() {
        return Err(HelloError::Malformed);
    }
    Ok(protocols)
}

fn server_name(extension: &[u8]) -> Result<String, HelloError> {
    let mut extension = Fields(extension);
    let mut names = Fields(extension.long()?);
    let kind = names.take(1)?;
    let name = names.long()?;
    // RFC 6066 §3: no two names of one type, and there is no other type.
    if kind != [HOST_NAME] || !names.is_empty() || !extension.is_empty() {
        return Err(HelloError::Malformed);
    }
    let name = str::from_utf8(name).map_err(|_other| HelloError::ServerName)?;
    let host = host::normalise(name).map_err(|_other| HelloError::ServerName)?;
    if host.port().is_some() {
        return Err(HelloError::ServerName);
    }
    Ok(host.host().to_owned())
}

/// Fields that say how long they are.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], HelloError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, HelloError> {
        match *self.take(2)? {
            [high, low] => Ok(u16::from_be_bytes([high, low])),
            _ => Err(HelloError::Malformed),
        }
    }

    /// What has its length in one byte.
    fn short(&mut self) -> Result<&'b [u8], HelloError> {
        let length = self.take(1)?.first().copied().unwrap_or(0);
        self.take(usize::from(length))
    }

    /// What has its length in two bytes.
    fn long(&mut self) -> Result<&'b [u8], HelloError> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn long(content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&length, content].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        let entry = [&[HOST_NAME], &*long(name)].concat();
        [&[0, 0], &*long(&long(&entry))].concat()
    }

    /// A message with these extensions.
    fn message(extensions: Option<&[u8]>) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.push(0);
        body.extend_from_slice(&long(&[0x13, 0x01]));
        body.extend_from_slice(&[1, 0]);
        body.extend(extensions.map(long).unwrap_or_default());
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO], &length[1..], &*body].concat()
    }

    fn records(message: &[u8], each: usize) -> Vec<u8> {
        let records = message.chunks(each);
        let record = |chunk: &[u8]| [&[HANDSHAKE_RECORD, 3, 1], &*long(chunk)].concat();
        records.flat_map(record).collect()
    }

    /// Read at once, and byte by byte.
    fn read(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
        let at_once = HelloReader::default().read(bytes);
        let mut reader = HelloReader::default();
        let mut pieces = bytes.chunks(1).map(|piece| reader.read(piece));
        let in_pieces = pieces.find(|read| *read != Ok(None)).unwrap_or(Ok(None));
        assert_eq!(at_once, in_pieces);
        at_once
    }

    fn named(name: &str) -> ClientHello {
        let server_name = Some(name.to_owned());
        ClientHello {
            server_name,
            ..ClientHello::default()
        }
    }

    #[test]
    fn protocols() {
        let offering = |names: &[u8]| {
            let extension = [&[0, 16], &*long(&long(names))].concat();
            read(&records(&message(Some(&extension)), 16_384))
        };
        let offered = offering(b"\x07mesh-h2\x02h2").unwrap().unwrap().protocols;
        assert_eq!(offered, [b"mesh-h2".to_vec(), b"h2".to_vec()]);
        for bad in [b"".as_slice(), b"\0", b"\x03h2"] {
            assert_eq!(offering(bad), Err(HelloError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn names() {
        let with = |name: &[u8]| read(&records(&message(Some(&sni(name))), 16_384));
        assert_eq!(with(b"shop.example"), Ok(Some(named("shop.example"))));
        assert_eq!(with(b"Shop.Example."), Ok(Some(named("shop.example"))));
        for bad in [
            &b""[..],
            b"a b",
            b"a:443",
            b"a\0b",
            b"a/b",
            b"\xff",
            &[b'a'; 256],
        ] {
            assert_eq!(with(bad), Err(HelloError::ServerName), "{bad:?}");
        }
        let none = Ok(Some(ClientHello::default()));
        assert_eq!(read(&records(&message(None), 100)), none);
        assert_eq!(read(&records(&message(Some(&[0, 10, 0, 0])), 100)), none);
    }

    /// bad-inputs.md row 69.
    #[test]
    fn messages_in_many_records_are_one() {
        let message = message(Some(&sni(b"shop.example")));
        assert_eq!(read(&records(&message, 1)), Ok(Some(named("shop.example"))));
        assert_eq!(read(&records(&message, 7)), Ok(Some(named("shop.example"))));
        let whole = records(&message, 1000);
        assert_eq!(read(whole.split_last().unwrap().1), Ok(None));
    }

    #[test]
    fn lengths_are_bounded() {
        let padding = |bytes: usize| {
            let mut left = bytes;
            let mut extensions = sni(b"a");
            let mut kind = 1000_u16;
            while left > 0 {
                let now = left.min(15_000);
                extensions.extend_from_slice(&kind.to_be_bytes());
                extensions.extend_from_slice(&long(&vec![0; now]));
                left -= now;
                kind += 1;
            }
            records(&message(Some(&extensions)), 16_384)
        };
        assert_eq!(read(&padding(60_000)), Ok(Some(named("a"))));
        assert_eq!(read(&padding(65_500)), Err(HelloError::TooLong));
        // A length that is claimed is no reason to wait for it.
        let claims = [HANDSHAKE_RECORD, 3, 1, 0, 4, CLIENT_HELLO, 0xff, 0xff, 0xff];
        assert_eq!(read(&claims), Err(HelloError::TooLong));
    }

    #[test]
    fn what_is_no_hello() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(HelloError::NotTls));
        assert_eq!(read(&[22, 4]), Err(HelloError::NotTls));
        assert_eq!(read(&[22, 3, 1, 0, 0]), Err(HelloError::Malformed));
        assert_eq!(read(&[22, 3, 1, 0, 1, 2]), Err(HelloError::NotTls));
        let twice = [sni(b"a"), sni(b"a")].concat();
        let error = Err(HelloError::Malformed);
        assert_eq!(read(&records(&message(Some(&twice)), 1000)), error);
        assert_eq!(read(&records(&message(Some(&[0, 0, 0])), 1000)), error);
        let two = long(&[&[0], &*long(b"a"), &[0], &*long(b"b")].concat());
        let two = [&[0, 0], &*long(&two)].concat();
        assert_eq!(read(&records(&message(Some(&two)), 1000)), error);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes));
            drop(read(&records(&bytes, 16)));
            drop(read(&records(&message(Some(&bytes)), 64)));
        }
    }
}
