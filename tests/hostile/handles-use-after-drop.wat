;; Waits for a timer that it dropped. Must trap.
(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
(import "wasi:io/poll@0.2.6" "[resource-drop]pollable" (func $drop (param i32)))
(run (local $p i32)
    (local.set $p (call $subscribe (i64.const 1)))
    (call $drop (local.get $p))
    (call $block (local.get $p))
    (call $fine))
