;; Calls ten thousand tools at once. Must be told that they are too many.
(import "chimera:skill/mcp@0.1.0" "call-tools" (func $calls (param i32 i32 i32)))
(memory (export "memory") 64)
(run
    (call $calls (i32.const 1048576) (i32.const 10000) (i32.const 1536))
    (if (i32.ne (i32.load (i32.const 1540)) (i32.const 10000)) (then unreachable))
    (call $pass_on (i32.load (i32.const 1536))))
