;; Hands an output stream over as a timer. Must trap.
(import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
(run (call $block (call $stdout)) (call $fine))
