;; Asks for a secret that its manifest does not name. Must end as a breach of security.
(import "chimera:skill/secrets@0.1.0" "exists" (func $exists (param i32 i32) (result i32)))
(data (i32.const 2048) "socialpublish_postdelete_everythinghostile/well-behavedkeyother")
(run (drop (call $exists (i32.const 2106) (i32.const 5))) (call $fine))
