;; Calls itself as deep as it may, and the deepest computes for ever. All of them must end at the first one's deadline.
(import "chimera:skill/skills@0.1.0" "call" (func $call (param i32 i32 i32 i32 i32)))
(data (i32.const 2048) "hostile/calls-itself-and-spins")
(run
    (call $call (i32.const 2048) (i32.const 30) (i32.const 1100) (i32.const 2) (i32.const 1536))
    (loop $on (br $on))
    unreachable)
