;; Calls a skill that its manifest declares and nobody granted. Must be denied, and a human asked.
(import "chimera:skill/skills@0.1.0" "call" (func $call (param i32 i32 i32 i32 i32)))
(data (i32.const 2048) "hostile/well-behaved")
(run
    (call $call (i32.const 2048) (i32.const 20) (i32.const 1100) (i32.const 2) (i32.const 1536))
    (call $pass_on (i32.const 1536)))
