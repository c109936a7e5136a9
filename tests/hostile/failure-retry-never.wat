;; Fails as transient and asks for a retry in half a billion years, where sums of times overflow. Must end as a
;; failure.
(data (i32.const 2048) "later")
(run
    (i32.store8 (i32.const 1024) (i32.const 1))
    (i32.store8 (i32.const 1032) (i32.const 1))
    (i32.store (i32.const 1036) (i32.const 2048)) (i32.store (i32.const 1040) (i32.const 5))
    (i32.store (i32.const 1044) (i32.const 2048)) (i32.store (i32.const 1048) (i32.const 5))
    (i32.store8 (i32.const 1056) (i32.const 1))
    (i64.store (i32.const 1064) (i64.const -1))
    (i32.const 1024))
