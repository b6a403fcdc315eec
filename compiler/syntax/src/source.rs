//! The files of one policy root: their paths, their text and positions inside them.
//!
//! It does not read them: whoever does hands over the bytes.

use std::sync::Arc;

use crate::limits;

/// How the name of a file of public keys ends. Such files stand beside the policies in a [`SourceSet`],
/// bounded like them, and are not parsed: whoever refers to one reads its text.
pub const KEY_SET_SUFFIX: &str = ".jwks.json";

/// A file of a [`SourceSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub(crate) u32);

impl FileId {
    /// The position of the file in [`SourceSet::files`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A range of bytes in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A span of `start..end`; an end before the start counts as an empty span.
    pub fn new(file: FileId, start: usize, end: usize) -> Self {
        // Files are bounded far below 4 GiB, so positions always fit.
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        let end = u32::try_from(end).unwrap_or(u32::MAX).max(start);
        Self { file, start, end }
    }

    /// The smallest span that holds both, or `self` if the other is in another file.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        if self.file != other.file {
            return self;
        }
        Self {
            file: self.file,
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The span as a range of byte offsets.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The files of one policy root, in the order they were added. A clone shares their text.
#[derive(Debug, Clone, Default)]
pub struct SourceSet {
    files: Vec<Arc<File>>,
    bytes: usize,
}

#[derive(Debug)]
struct File {
    path: String,
    content: Content,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Text {
        text: String,
        line_starts: Vec<u32>,
        /// Offsets of bytes that are not UTF-8; each is a `?` in `text`, so that positions stay true.
        invalid: Vec<u32>,
    },
    /// Left unread because a bound was passed; the size it has.
    TooLarge { bytes: u64 },
    /// Text of another encoding.
    Utf16,
    /// Not a file that can be read; why.
    Refused { why: String },
    /// Not a file, and passed over; why somebody might think otherwise.
    Passed { why: String },
}

impl SourceSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file. What passes the bounds is remembered by its size only and becomes a finding of
    /// [`parse`](crate::parse), as do bytes that are not UTF-8.
    pub fn add(&mut self, path: impl Into<String>, bytes: Vec<u8>) -> FileId {
        let content = self.read(bytes);
        self.push(path.into(), content)
    }

    /// Gives a file other text, or adds it at its place among files that were added in the order of their paths. For
    /// whoever holds a root in memory and changes it: the others keep their text, and a file that is new moves the
    /// [`FileId`]s of those after it.
    pub fn set(&mut self, path: &str, bytes: Vec<u8>) -> FileId {
        let position = self.position(path);
        if let Ok(position) = position {
            self.bytes -= self.files[position].content.counted();
        }
        let file = Arc::new(File {
            path: path.to_owned(),
            content: self.read(bytes),
        });
        let position = match position {
            Ok(position) => {
                self.files[position] = file;
                position
            }
            Err(position) => {
                self.files.insert(position, file);
                position
            }
        };
        FileId(u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// Takes a file out of files that were added in the order of their paths; false if there is none.
    pub fn remove(&mut self, path: &str) -> bool {
        let Ok(position) = self.position(path) else {
            return false;
        };
        self.bytes -= self.files.remove(position).content.counted();
        true
    }

    fn position(&self, path: &str) -> Result<usize, usize> {
        self.files
            .binary_search_by(|file| file.path.as_str().cmp(path))
    }

    /// What bytes are within the bounds, which they then count for.
    fn read(&mut self, bytes: Vec<u8>) -> Content {
        let size = bytes.len();
        if size > limits::FILE_BYTES_MAX || self.bytes + size > limits::TOTAL_BYTES_MAX {
            return Content::TooLarge { bytes: size as u64 };
        }
        if is_utf16(&bytes) {
            return Content::Utf16;
        }
        self.bytes += size;
        let (text, invalid) = decode(bytes);
        let line_starts = line_starts(&text);
        Content::Text {
            text,
            line_starts,
            invalid,
        }
    }

    /// Whether a file is in both sets the same one: path, place and text.
    pub fn is_same(&self, other: &Self, file: FileId) -> bool {
        let of = |sources: &Self| sources.files.get(file.index()).cloned();
        match (of(self), of(other)) {
            (Some(one), Some(two)) => {
                Arc::ptr_eq(&one, &two) || one.path == two.path && one.content == two.content
            }
            _ => false,
        }
    }

    /// Adds a file that its reader left alone because of its size.
    pub fn add_too_large(&mut self, path: impl Into<String>, bytes: u64) -> FileId {
        self.push(path.into(), Content::TooLarge { bytes })
    }

    /// Adds a path that is not a file that may be read (a symbolic link, a submodule); `why` becomes the finding's text.
    pub fn add_refused(&mut self, path: impl Into<String>, why: impl Into<String>) -> FileId {
        self.push(path.into(), Content::Refused { why: why.into() })
    }

    /// Adds a path that holds no policy though it may seem to (a linked folder); `why` becomes a warning's text.
    pub fn add_passed(&mut self, path: impl Into<String>, why: impl Into<String>) -> FileId {
        self.push(path.into(), Content::Passed { why: why.into() })
    }

    fn push(&mut self, path: String, content: Content) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(Arc::new(File { path, content }));
        id
    }

    /// Every file, in the order they were added.
    pub fn files(&self) -> impl ExactSizeIterator<Item = FileId> + '_ {
        (0..self.files.len()).map(|index| FileId(u32::try_from(index).unwrap_or(u32::MAX)))
    }

    /// The path that the file was added with.
    pub fn path(&self, file: FileId) -> &str {
        self.files.get(file.index()).map_or("", |file| &file.path)
    }

    /// The text of a file, or nothing if it was not read.
    pub fn text(&self, file: FileId) -> Option<&str> {
        match &self.files.get(file.index())?.content {
            Content::Text { text, .. } => Some(text),
            Content::TooLarge { .. }
            | Content::Utf16
            | Content::Refused { .. }
            | Content::Passed { .. } => None,
        }
    }

    /// The text of a span, or nothing if it lies outside its file.
    pub fn slice(&self, span: Span) -> Option<&str> {
        self.text(span.file)?.get(span.range())
    }

    /// The file with this path.
    pub fn find(&self, path: &str) -> Option<FileId> {
        self.files().find(|id| self.path(*id) == path)
    }

    /// Line and column of the start of a span, both from 1, the column in characters.
    pub fn line_column(&self, span: Span) -> (u32, u32) {
        let Some(Content::Text {
            text, line_starts, ..
        }) = self.files.get(span.file.index()).map(|file| &file.content)
        else {
            return (1, 1);
        };
        let line = line_starts
            .partition_point(|start| *start <= span.start)
            .max(1);
        let line_start = line_starts.get(line - 1).copied().unwrap_or(0) as usize;
        let before = text
            .as_bytes()
            .get(line_start..span.start as usize)
            .unwrap_or_default();
        // Counting the bytes that begin a character also works inside one.
        let column = before.iter().filter(|byte| (**byte & 0xC0) != 0x80).count() + 1;
        (
            u32::try_from(line).unwrap_or(u32::MAX),
            u32::try_from(column).unwrap_or(u32::MAX),
        )
    }

    pub(crate) fn content(&self, file: FileId) -> Option<&Content> {
        self.files.get(file.index()).map(|file| &file.content)
    }
}

impl Content {
    /// Bytes that count for the bound of all files together.
    fn counted(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::TooLarge { .. } | Self::Utf16 | Self::Refused { .. } | Self::Passed { .. } => 0,
        }
    }
}

/// Whether bytes are UTF-16, by their mark or because every other one of the first is zero.
fn is_utf16(bytes: &[u8]) -> bool {
    const LOOKED_AT: usize = 64;
    let marked = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    let first = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    let zeros = |from: usize| {
        let mut halves = first.iter().skip(from).step_by(2);
        first.len() >= 4 && halves.all(|byte| *byte == 0)
    };
    marked || zeros(0) != zeros(1)
}

/// Replaces each byte that is not UTF-8 by a `?`, so that every offset stays where it was.
fn decode(bytes: Vec<u8>) -> (String, Vec<u32>) {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return (text, Vec::new()),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len());
    let mut invalid = Vec::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for _ in chunk.invalid() {
            invalid.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            text.push('?');
        }
    }
    (text, invalid)
}

fn line_starts(text: &str) -> Vec<u32> {
    let after_newline = text
        .bytes()
        .enumerate()
        .filter(|(_, byte)| *byte == b'\n')
        .map(|(index, _)| index + 1);
    std::iter::once(0)
        .chain(after_newline)
        .map(|start| u32::try_from(start).unwrap_or(u32::MAX))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_lines_and_characters_from_one() {
        let mut sources = SourceSet::new();
        let file = sources.add("a.kdl", "a\nßb c\n".as_bytes().to_vec());
        let at = |start| sources.line_column(Span::new(file, start, start));
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(2), (2, 1));
        assert_eq!(at(4), (2, 2));
        assert_eq!(at(6), (2, 4));
        assert_eq!(at(8), (3, 1));
        assert_eq!(at(999), (3, 1));
    }

    #[test]
    fn invalid_bytes_keep_their_positions() {
        let mut sources = SourceSet::new();
        let file = sources.add("a.kdl", b"a \xff\xfe b".to_vec());
        assert_eq!(sources.text(file), Some("a ?? b"));
        assert!(
            matches!(sources.content(file), Some(Content::Text { invalid, .. }) if *invalid == [2, 3])
        );
    }

    #[test]
    fn a_file_is_changed_where_it_is() {
        let mut sources = SourceSet::new();
        sources.add("a.kdl", b"a".to_vec());
        sources.add("c.kdl", b"c".to_vec());
        let before = sources.clone();
        let b = sources.set("b.kdl", b"b".to_vec());
        assert_eq!((b.index(), sources.text(b)), (1, Some("b")));
        assert!(sources.is_same(&before, FileId(0)));
        assert!(!sources.is_same(&before, FileId(1)));
        assert_eq!(sources.set("b.kdl", b"bb".to_vec()), b);
        assert_eq!((sources.text(b), sources.bytes), (Some("bb"), 4));
        assert!(sources.remove("b.kdl"));
        assert!(!sources.remove("b.kdl"));
        assert!(sources.is_same(&before, FileId(1)));
        assert_eq!((sources.files().len(), sources.bytes), (2, 2));
    }

    #[test]
    fn a_large_file_is_remembered_by_its_size_only() {
        let mut sources = SourceSet::new();
        let file = sources.add("a.kdl", vec![b'a'; limits::FILE_BYTES_MAX + 1]);
        assert_eq!(sources.text(file), None);
        assert_eq!(sources.line_column(Span::new(file, 5, 6)), (1, 1));
    }
}
