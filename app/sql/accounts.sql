-- name: insert_user(id, email, password_hash, role, now)!
-- Insert an account; raises a unique violation if the email is taken.
insert into users (id, email, password_hash, role, created_at)
values (:id, :email, :password_hash, :role, :now);

-- name: user_by_email(email)^
-- The account with a canonical email.
select id, email, password_hash, role from users where email = :email;

-- name: make_admin(id, email, password_hash, now)!
-- Insert an administrator, or make the existing account with this email one and set its password.
insert into users (id, email, password_hash, role, created_at)
values (:id, :email, :password_hash, 'ADMIN', :now)
on conflict (email) do update set role = 'ADMIN', password_hash = excluded.password_hash;
