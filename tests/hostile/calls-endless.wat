;; Asks for a secret for ever. Must be told no after the limit on calls, and end at its deadline.
(import "chimera:skill/secrets@0.1.0" "exists" (func $exists (param i32 i32) (result i32)))
(data (i32.const 2048) "socialpublish_postdelete_everythinghostile/well-behavedkeyother")
(run (loop $on (drop (call $exists (i32.const 2103) (i32.const 3))) (br $on)) unreachable)
