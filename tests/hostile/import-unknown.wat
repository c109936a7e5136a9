;; Imports an interface that nobody serves. Must be refused when it is installed.
(import "acme:private/secret-door@1.0.0" "open" (func $open))
(run (call $open) (call $fine))
