;; Calls a tool of a slot that its manifest does not declare. Must end as a breach of security.
(import "chimera:skill/mcp@0.1.0" "call-tool" (func $call (param i32 i32 i32 i32 i32 i32 i32)))
(data (i32.const 2048) "socialpublish_postdelete_everythinghostile/well-behavedkeyother")
(run
    (call $call (i32.const 2106) (i32.const 5) (i32.const 2054) (i32.const 12) (i32.const 1100) (i32.const 2) (i32.const 1536))
    (call $pass_on (i32.const 1536)))
