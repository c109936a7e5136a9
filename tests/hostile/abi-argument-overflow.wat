;; Waits for a list of timers whose size in bytes overflows 32 bits. Must trap.
(import "wasi:io/poll@0.2.6" "poll" (func $poll (param i32 i32 i32)))
(run (call $poll (i32.const 16) (i32.const 0x40000001) (i32.const 1536)) (call $fine))
