;; Gives the host an odd address for a list of 32-bit numbers. Must trap.
(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.6" "poll" (func $poll (param i32 i32 i32)))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65537))
(run (i32.store (i32.const 4096) (call $subscribe (i64.const 0)))
    (call $poll (i32.const 4096) (i32.const 1) (i32.const 1536)) (call $fine))
