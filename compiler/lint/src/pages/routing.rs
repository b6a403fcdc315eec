//! Pages of what linking reports about ports, destinations and times.

use mesh_compiler::code;

super::declare_pages! {
    /// ## What it flags
    /// A path, or a regular expression over paths, that no request has once its path is normalised: `//`, `/./` and
    /// `/../`, an escaped slash or backslash, a `;`. A regular expression that takes none but such paths is found by
    /// comparing it with all normalised ones.
    /// ## Why it matters
    /// There is one normalised path for each request: dots resolved, slashes merged, escapes canonical. Routes, rules,
    /// logs and the forwarded request all use it, so such a pattern takes nothing. Where the application needs `%2f` or
    /// `;` in its paths, its route says `path-accepts`.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route old { match { path "/v1//reviews/**" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route old { match { path regex="/v1//.*" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route old { match { path "/v1/reviews/**" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    code::NOT_NORMALISED => "path that no request has once it is normalised";

    /// ## What it flags
    /// A gRPC method, in a `match` or in a rule, where none of the ports in question says `protocol=grpc`. It is
    /// *possible*: gRPC may be spoken on a port that only says `http`.
    /// ## Why it matters
    /// `protocol` is what the application speaks. Either the method is never asked for, or the port says too little: then
    /// nothing knows the statuses of gRPC, and retries by them do not happen.
    /// ## Examples
    /// ```kdl bad
    /// service ratings {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route read { match { grpc "shop.Ratings/Get" }; timeout "1s" }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service ratings {
    ///     port 9080 protocol=grpc
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route read { match { grpc "shop.Ratings/Get" }; timeout "1s" }
    ///     route rest
    /// }
    /// ```
    code::GRPC_MATCH => "gRPC method on a port that does not speak gRPC";

    /// ## What it flags
    /// An address of a service with several ports that does not say which of them it serves.
    /// ## Why it matters
    /// Requests for one port would reach an application that speaks another protocol.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 80 81; endpoints { static "10.0.0.7:8080" } }
    /// ```
    /// ```kdl good
    /// service reviews { port 80 81; endpoints { static "10.0.0.7:80" "10.0.0.7:81" } }
    /// ```
    code::PORT_REQUIRED => "address without a port of the service";

    /// ## What it flags
    /// A route that gives some of its destinations a weight and others none.
    /// ## Why it matters
    /// There is no weight that the others could be meant to have.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" version=v1; static "10.0.0.8:80" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=90; to v2 }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" version=v1; static "10.0.0.8:80" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=90; to v2 weight=10 }
    /// }
    /// ```
    code::WEIGHTS_ON_SOME => "weights on some destinations only";

    /// ## What it flags
    /// A route all of whose destinations have weight 0.
    /// ## Why it matters
    /// A single destination may have 0, to take it out of the split; all of them leave nowhere to go.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" version=v1; static "10.0.0.8:80" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=0; to v2 weight=0 }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" version=v1; static "10.0.0.8:80" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=100; to v2 weight=0 }
    /// }
    /// ```
    code::NO_WEIGHT => "weights that add up to nothing";

    /// ## What it flags
    /// A weight on the only destination of a route.
    /// ## Why it matters
    /// It has no effect, and often a second destination was forgotten.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" version=v1 }
    ///     subset v1 { labels version=v1 }
    ///     route all { to v1 weight=90 }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" version=v1 }
    ///     subset v1 { labels version=v1 }
    ///     route all { to v1 }
    /// }
    /// ```
    code::NEEDLESS_WEIGHT => "weight on the only destination";

    /// ## What it flags
    /// A route that names one destination twice.
    /// ## Why it matters
    /// The shares add up to something that nobody reads off the file.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" version=v1 }
    ///     subset v1 { labels version=v1 }
    ///     route all { to v1 weight=90; to v1 weight=10 }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" version=v1 }
    ///     subset v1 { labels version=v1 }
    ///     route all { to v1 }
    /// }
    /// ```
    code::DESTINATION_TWICE => "one destination named twice";

    /// ## What it flags
    /// A destination that is no subset of the service.
    /// ## Why it matters
    /// Its share of the requests would have nowhere to go.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" version=v1 }
    ///     subset v1 { labels version=v1 }
    ///     route all { to v2 }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" version=v1 }
    ///     subset v1 { labels version=v1 }
    ///     route all { to v1 }
    /// }
    /// ```
    code::UNKNOWN_SUBSET => "destination that is no subset";

    /// ## What it flags
    /// Words of one route of which only one can hold: `redirect` or `respond`, by which the proxy answers
    /// itself, beside words about requests that are sent on.
    /// ## Why it matters
    /// One of them would do nothing, and its author believes that it does.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" }
    ///     route old { match { path "/old" }; redirect path="/new"; timeout "1s" }
    ///     route rest { }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" }
    ///     route old { match { path "/old" }; redirect path="/new" }
    ///     route rest { timeout "1s" }
    /// }
    /// ```
    code::INCOMPATIBLE_ACTIONS => "words of one route that can't both hold";

    /// ## What it flags
    /// A `match` on parts of a request, or a setting about requests, for a port of `protocol=tcp` or `tls`.
    /// ## Why it matters
    /// On such a port the proxy sees bytes, no method, path or header: the match would never hold.
    /// ## Examples
    /// ```kdl bad
    /// service db {
    ///     port 5432 protocol=tcp
    ///     endpoints { static "10.0.0.7:5432" }
    ///     subset old { labels version=v1 }
    ///     route old { match { path "/old" }; to old }
    ///     route rest { }
    /// }
    /// ```
    /// ```kdl good
    /// service db {
    ///     port 5432 protocol=tcp
    ///     endpoints { static "10.0.0.7:5432" version=v1 }
    ///     subset old { labels version=v1 }
    ///     route old { match { peer-ip "10.1.0.0/16" }; to old }
    ///     route rest { }
    /// }
    /// ```
    code::MATCH_ON_BYTES => "match on what a port of bytes never knows";

    /// ## What it flags
    /// An `allow` or `deny` of a service that asks for a part of a request on a port of `protocol=tcp` or
    /// `tls`; a warning where the service takes such a `deny` from `defaults` or a policy.
    /// ## Why it matters
    /// On such a port the proxy sees bytes, no method, path or header: an `allow` that asks
    /// for one admits nobody, and a `deny` that does refuses everybody.
    /// ## Examples
    /// ```kdl bad
    /// service app { port 80; endpoints { static "10.0.0.8:80" } }
    /// service db {
    ///     port 5432 protocol=tcp
    ///     endpoints { static "10.0.0.7:5432" }
    ///     allow app { method GET }
    /// }
    /// ```
    /// ```kdl good
    /// service app { port 80; endpoints { static "10.0.0.8:80" }; calls db { listen "127.0.0.1:15432" } }
    /// service db {
    ///     port 5432 protocol=tcp
    ///     endpoints { static "10.0.0.7:5432" }
    ///     allow app { port 5432 }
    /// }
    /// ```
    code::CONDITION_ON_BYTES => "condition on what a port of bytes never knows";

    /// ## What it flags
    /// A path of `rewrite` or `redirect` with `**` or `{x}` where a path of the route captures no such thing.
    /// ## Why it matters
    /// There would be nothing to put there.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" }
    ///     route old { match { path "/old" }; rewrite path="/new/**" }
    ///     route rest { }
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" }
    ///     route old { match { path "/old/**" }; rewrite path="/new/**" }
    ///     route rest { }
    /// }
    /// ```
    code::NOT_CAPTURED => "place for what no pattern captures";

    /// ## What it flags
    /// `ring-hash` or `maglev` without `per`.
    /// ## Why it matters
    /// They keep requests of one kind at one endpoint. Without a key all requests are of one kind, and
    /// a single endpoint would take them all.
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" "10.0.0.8:80" }
    ///     balance ring-hash
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.7:80" "10.0.0.8:80" }
    ///     balance ring-hash { per header user }
    /// }
    /// ```
    code::HASH_WITHOUT_KEY => "balancing by a hash of nothing";

    /// ## What it flags
    /// A time of zero.
    /// ## Why it matters
    /// In other meshes `0s` means no limit at all, which is rarely what its author meant; taken
    /// literally it would fail every request. A limit is taken away by `none`, in so many words.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 80; endpoints { static "10.0.0.7:80" }; timeout "0s" }
    /// ```
    /// ```kdl good
    /// service reviews { port 80; endpoints { static "10.0.0.7:80" }; timeout none connect="1s" stream-idle="10m" }
    /// ```
    code::ZERO_TIME => "zero does not mean that there is no limit";
}
