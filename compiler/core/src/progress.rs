//! What somebody may watch while a mesh is compiled. The compiler has no clock: whoever watches has one.

/// A part of the work. They come in this order, each once but for [`Stage::Lint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Text becomes trees.
    Parse,
    /// Trees become declarations.
    Decode,
    /// Names are resolved and levels merged.
    Link,
    /// What several rules ask for is computed, once; its name.
    Facts(&'static str),
    /// A rule is checked; its code.
    Lint(&'static str),
    /// Slices are made.
    Emit,
    /// Slices are read as a proxy reads them.
    Verify,
}

/// Is told when a part of the work begins, which is when the one before ended.
pub trait Observer {
    /// The work goes on with this.
    fn begin(&mut self, stage: Stage);

    /// Whether each part has to be told apart from the others, so that none may run beside another.
    fn is_measuring(&self) -> bool {
        false
    }
}

/// Watches nothing.
impl Observer for () {
    fn begin(&mut self, _stage: Stage) {}
}
