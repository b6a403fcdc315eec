//! Pages of what reading and decoding report.

use mesh_compiler::code as core;
use mesh_syntax::code as syntax;

super::declare_pages! {
    /// ## What it flags
    /// Text that is not KDL 2, or that is KDL but does not mean what it seems to: a bare
    /// `http://…` (the rest of the line becomes a comment), `GET,POST` (one word), a brace or quote
    /// that is never closed, bare `10s`, `20%` or `/a`.
    /// ## Why it matters
    /// The rest of the file is still checked, but what could not be read is missing from the mesh.
    /// Names and words are bare; paths, hosts, addresses, values with units and prose are quoted.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; timeout 10s }
    /// ```
    /// ```kdl good
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; timeout "10s" }
    /// ```
    syntax::SYNTAX_ERROR => "text that cannot be read";

    /// ## What it flags
    /// A node, property or value that the language does not have, or does not have there. If a word
    /// is close to one that fits, the finding suggests it.
    /// ## Why it matters
    /// Nothing is ever ignored: an unknown word is most often a known one misspelled, and a policy that
    /// is skipped in silence is worse than none.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; timout "2s" }
    /// ```
    /// ```kdl good
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; timeout "2s" }
    /// ```
    core::UNKNOWN_WORD => "word that the language does not have here";

    /// ## What it flags
    /// A value of the wrong type, or without its unit: a number where a time is wanted, a text where
    /// a word is wanted, one argument too many.
    /// ## Why it matters
    /// A time without a unit means seconds to one reader and milliseconds to the next.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; timeout 2 }
    /// ```
    /// ```kdl good
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; timeout "2s" }
    /// ```
    core::WRONG_TYPE => "value of the wrong type or unit";

    /// ## What it flags
    /// Something required that is not there: the `mesh` node, its `trust-domain`, a service's `port`, an
    /// argument.
    /// ## Why it matters
    /// There is no value that would be right for everybody, so none is assumed.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { endpoints { static "10.0.0.7:9080" } }
    /// ```
    /// ```kdl good
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" } }
    /// ```
    core::MISSING => "something required is missing";

    /// ## What it flags
    /// A property given twice, or a setting given twice at one level.
    /// ## Why it matters
    /// In KDL the last of two equal properties wins without a word. Here nothing wins by its place.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; timeout "2s"; timeout "3s" }
    /// ```
    /// ```kdl good
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; timeout "3s" }
    /// ```
    syntax::DUPLICATE_SETTING => "one setting given twice";

    /// ## What it flags
    /// A number or time outside its bounds: a port of 70000, 0 attempts, more attempts than
    /// `refuse attempts=` permits.
    /// ## Why it matters
    /// The value cannot mean what was written, and a nearer one would be a guess.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 70000; endpoints { static "10.0.0.7:9080" } }
    /// ```
    /// ```kdl good
    /// service reviews { port 7000; endpoints { static "10.0.0.7:9080" } }
    /// ```
    core::OUT_OF_RANGE => "value outside its bounds";

    /// ## What it flags
    /// Two things that exclude each other, such as `retry none` with a number of attempts.
    /// ## Why it matters
    /// One of them would have to be ignored, and nothing is.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; retry none attempts=3 }
    /// ```
    /// ```kdl good
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; retry none }
    /// ```
    core::EXCLUSIVE => "two things that exclude each other";

    /// ## What it flags
    /// A path, host or value pattern that does not compile: a regular expression with look-around or
    /// back-references, or one whose automaton would be too large.
    /// ## Why it matters
    /// The proxy matches in linear time whatever a stranger sends, which such patterns do not allow.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route odd { match { path regex="/(a)\\1" } }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route odd { match { path regex="/aa" } }
    ///     route rest
    /// }
    /// ```
    core::INVALID_REGEX => "pattern that does not compile";

    /// ## What it flags
    /// A spelling of KDL 1: bare `true`, `false`, `null`, or raw strings as `r"…"`.
    /// ## Why it matters
    /// Policy files are KDL 2. The fix rewrites the spelling and keeps the meaning.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route odd { match { path regex=r"/[a-z]+" } }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route odd { match { path regex=#"/[a-z]+"# } }
    ///     route rest
    /// }
    /// ```
    syntax::KDL_1_SPELLING => "spelling of KDL 1";

    /// ## What it flags
    /// A file, a nesting or a number of definitions beyond what the compiler takes, or a service whose
    /// configuration is larger than what a proxy takes.
    /// ## Why it matters
    /// The compiler reads what strangers propose. Every bound keeps its time and memory in proportion
    /// to what a person could have written.
    syntax::LIMIT_EXCEEDED => "larger than the compiler takes";

    /// ## What it flags
    /// A symbolic link with the name of a policy file, or a submodule, below the policy root. As a warning, a link to a
    /// folder, or one that leads out of the repository: whatever policies are there are not read by it.
    /// ## Why it matters
    /// It could name something outside the repository, and then a commit would no longer say what is in
    /// force.
    syntax::OUTSIDE_REPOSITORY => "link that may lead out of the repository";

    /// ## What it flags
    /// A file with the lines `<<<<<<<`, `=======` and `>>>>>>>` that a merge leaves where both sides changed the same lines.
    /// Every command then ends with status 2, for a mesh of two minds can't be judged.
    /// ## Why it matters
    /// Nobody has decided yet which side holds, so nothing that is found in the other files can be relied on.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    /// <<<<<<< HEAD
    ///     port 9080
    /// =======
    ///     port 9081
    /// >>>>>>> reviews-moves
    ///     endpoints { static "10.0.0.7:9080" }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9081
    ///     endpoints { static "10.0.0.7:9081" }
    /// }
    /// ```
    syntax::MERGE_CONFLICT => "merge conflict";

    /// ## What it flags
    /// A key, token or password in a policy file, comments included: private keys, tokens in the form that their issuers
    /// give them, a URL with a password, and literal values of headers such as `authorization` and `x-api-key`, where they
    /// are set or compared with. The finding never repeats what it found. What merely has the form of a token is
    /// *possible*: it may be an example.
    /// ## Why it matters
    /// Whoever can read the repository, now or later, has it, and every proxy that the policy reaches. Taking it out
    /// leaves it in the history: it has to be replaced where it is valid. Key material is given to proxies at start and
    /// named in policy.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route all { request-headers { set authorization "Basic c2hvcDpzZXNhbWU=" } }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route all { request-headers { remove authorization } }
    /// }
    /// ```
    core::SECRET => "key, token or password in a policy file";

    /// ## What it flags
    /// A `suppress` without `reason=`, `owner=` or `until=`.
    /// ## Why it matters
    /// A finding that is let pass needs somebody to ask, a reason to judge and a day on which it is looked at
    /// again. Otherwise it stays for ever.
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test"; team shop { service reviews } }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; retry reset attempts=2 }
    /// suppress MSH0405 at=reviews reason="two instances only"
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test"; team shop { service reviews } }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; retry reset attempts=2 }
    /// suppress MSH0405 at=reviews reason="two instances only" owner=shop until="2099-01-01"
    /// ```
    core::UNANSWERED_SUPPRESSION => "suppression without reason, owner or expiry";

    /// ## What it flags
    /// A file that `meshc fmt` would lay out otherwise. Only `meshc check --formatting` looks for it, and
    /// editors do; in CI, `meshc fmt --check` is the command for it.
    /// ## Why it matters
    /// With one layout, a change shows what it changes and nothing else. Formatting never changes what
    /// policies mean, and it keeps every comment and the spelling of every literal. It is a note and off by
    /// default because a finding says that a policy is wrong, and layout never makes one wrong.
    syntax::NOT_FORMATTED => "file that is not formatted";

    /// ## What it flags
    /// A word that the language has and that this release does not carry out yet.
    /// ## Why it matters
    /// A policy that is accepted and not enforced is the worst of all. A keyword lands together with
    /// what enforces it. Such words are few, and the reference of keywords lists them.
    core::NOT_IN_THIS_RELEASE => "not supported by this release";
}
