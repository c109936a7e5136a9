;; Waits for an empty list, which is never ready. Must trap.
(import "wasi:io/poll@0.2.6" "poll" (func $poll (param i32 i32 i32)))
(run (call $poll (i32.const 16) (i32.const 0) (i32.const 1536)) (call $fine))
