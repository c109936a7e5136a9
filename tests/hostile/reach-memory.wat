;; Recalls, where its manifest declares that it remembers. Must end as a breach of security.
(import "chimera:skill/memory@0.1.0" "recall" (func $recall (param i32 i32 i32 i32)))
(run
    (call $recall (i32.const 1100) (i32.const 2) (i32.const 10) (i32.const 1536))
    (call $pass_on (i32.const 1536)))
