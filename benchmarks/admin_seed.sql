-- What the admin view is timed on: see benchmarks/admin_seed.py, which fills in :calls and the like.

SET synchronous_commit = off;

CREATE OR REPLACE FUNCTION v7(at timestamptz, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT CAST(
        lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15) AS uuid)
$$;
CREATE OR REPLACE FUNCTION call_at(n bigint, of bigint) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT date_trunc('minute', now()) - make_interval(secs => (of - n) * 28.0 * 86400 / of)
$$;
CREATE OR REPLACE FUNCTION text_of(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'Write a function that returns ' || md5(n::text) || ' of a list, sorted by '
        || md5((n / 7)::text) || ', and add tests for the empty list.'
$$;
CREATE OR REPLACE FUNCTION code_of(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT E'```python\ndef f_' || substr(md5(n::text), 1, 8) || E'(items):\n    """Return it."""\n'
        || E'    found = sorted(items, key=lambda one: one.size)\n    return [x for x in found if x]\n'
        || repeat(E'    # ' || md5((n + 1)::text) || E'\n', 12) || '```'
$$;

INSERT INTO interaction (id, role, task_type, project, episode_id, gen_ai_operation_name,
    gen_ai_request_model, gen_ai_usage_input_tokens, gen_ai_usage_output_tokens, status,
    error_type, completed, latency_ms, ttft_ms, cost_usd, usage_estimated, source, arm,
    started_at, ingested_at)
SELECT v7(call_at(n, :calls), n), (:roles)[1 + n % 5], 'type-' || n % 12, 'default',
    v7(call_at(n - n % 5, :calls), -(n / 5)), 'chat', 'model-' || n % 3, 200 + n % 900,
    50 + n % 400, CASE WHEN n % 40 = 0 THEN 'error' ELSE 'success' END,
    CASE WHEN n % 40 = 0 THEN 'timeout' END, true, 300 + n % 2900, 80 + n % 300,
    0.0004 * (n % 50), false, 'gateway', CASE n % 10 WHEN 0 THEN 'treatment' END,
    call_at(n, :calls), call_at(n, :calls)
FROM generate_series(1, :calls) AS n;

INSERT INTO interaction_payload (id, request, response)
SELECT v7(call_at(n, :calls), n),
    json_build_object('messages', json_build_array(
        json_build_object('role', 'system', 'content', 'You are a careful engineer.'),
        json_build_object('role', 'user', 'content', text_of(n)))),
    json_build_object('choices', json_build_array(json_build_object('message',
        json_build_object('role', 'assistant', 'content', code_of(n)))))
FROM generate_series(1, :calls) AS n;

INSERT INTO feedback (id, interaction_id, kind, value, source, actor, created_at, ingested_at)
SELECT v7(call_at(n, :calls), n + 500000000), v7(call_at(n, :calls), n), 'success',
    (n % 3 > 0)::int, 'test', 'pytest', call_at(n, :calls), call_at(n, :calls)
FROM generate_series(1, :calls, 5) AS n;

INSERT INTO example (id, role, interaction_id, variant, project, task_type, difficulty,
    code_language, prompt, answer, corrected, polarity, status, drop_reason, duplicate_of,
    similarity, score, scores, norm_hash, row_hash, split, split_key, n_tokens, protection,
    needs_judging, needs_settling, started_at, created_at)
SELECT v7(call_at(n, :examples), n + 1000000000), (:roles)[1 + n % 5], v7(call_at(n, :calls), n),
    'default', 'default', 'type-' || n % 12, 'easy', 'python',
    jsonb_build_array(jsonb_build_object('role', 'user', 'content', text_of(n))), code_of(n),
    false, 'positive', CASE WHEN n % 4 = 0 THEN 'dropped' ELSE 'kept' END,
    CASE WHEN n % 4 = 0 THEN (ARRAY['near_duplicate', 'low_score', 'too_short'])[1 + n % 3] END,
    CASE WHEN n % 4 = 0 AND n % 3 = 0
        THEN v7(call_at(n - 1, :examples), n - 1 + 1000000000) END,
    CASE WHEN n % 4 = 0 AND n % 3 = 0 THEN 0.9 END, (n % 100) / 100.0,
    jsonb_build_object('outcome', 0.9, 'n_feedback', 1), md5(n::text), md5(n::text),
    CASE WHEN n % 10 = 0 THEN 'test' WHEN n % 10 = 1 THEN 'validation' ELSE 'train' END,
    'k', 40 + n % 600, '', false, false, call_at(n, :examples), call_at(n, :examples)
FROM generate_series(1, :examples) AS n;

INSERT INTO run (id, kind, role, status, params, progress, attempts, worker, created_at,
    started_at, heartbeat_at, finished_at, result)
SELECT v7(call_at(n, :few), n), (ARRAY['trainer.train', 'curation.build',
        'evaluator.evaluate'])[1 + n % 3], (:roles)[1 + n % 5],
    CASE WHEN n > :few - 4 THEN 'running' WHEN n % 30 = 0 THEN 'failed' ELSE 'done' END,
    '{}', '{"done": 30, "total": 40, "unit": "steps"}', 1, 'host:1:1',
    call_at(n, :few), call_at(n, :few), now(),
    CASE WHEN n > :few - 4 THEN NULL ELSE call_at(n, :few) + interval '90 s' END, '{}'
FROM generate_series(1, :few) AS n;

INSERT INTO dataset (id, role, kind, variant, number, content_hash, card, n_train,
    n_validation, n_test, created_at)
SELECT v7(call_at(n, :versions), n), (:roles)[1 + n % 5], 'sft', 'default', 1 + n / 5, md5(n::text),
    jsonb_build_object('dropped_by_reason', jsonb_build_object('near_duplicate', 900,
        'low_score', 300), 'task_types', jsonb_build_object('type-1', 40, 'type-2', 30),
        'warnings', '[]'::jsonb, 'quality', '{}'::jsonb, 'n_tokens',
        '{"p50": 120, "p95": 400}'::jsonb),
    :examples * 6 / 10, :examples / 14, :examples / 14, call_at(n, :versions)
FROM generate_series(1, :versions) AS n;

INSERT INTO dataset_shard (dataset_id, split, position, shard, n_rows, uri, file, origin)
SELECT d.id, s.split, p, s.split || p, 1000, 'sha256/x', 'x', 'new'
FROM (SELECT id FROM dataset ORDER BY id DESC LIMIT 2) AS d,
    (VALUES ('train'), ('validation'), ('test')) AS s(split),
    generate_series(0, greatest(:examples / 5000 - 1, 0)) AS p;

INSERT INTO shard_row (shard, row_id)
SELECT split || (row_number() OVER (PARTITION BY split ORDER BY id) - 1)
    % greatest(:examples / 5000, 1), id
FROM example WHERE status = 'kept';

INSERT INTO training_run (id, run_id, role, dataset_id, base_model, method, recipe, seed,
    metrics, history, manifest, created_at)
SELECT v7(call_at(n, :versions), n + 100), r.id, (:roles)[1 + n % 5], d.id, 'tiny', 'sft-lora',
    '{"r": 16, "lr": 0.0002}', 7, '{"validation_loss": 0.4}',
    (SELECT jsonb_agg(jsonb_build_object('step', s, 'loss', 2.0 / s, 'lr', 0.0001))
     FROM generate_series(1, 200) AS s), '{}', call_at(n, :versions)
FROM (SELECT id, row_number() OVER (ORDER BY id DESC) AS n FROM run WHERE kind = 'trainer.train'
      LIMIT :versions) AS r
JOIN (SELECT id, row_number() OVER (ORDER BY id DESC) AS m FROM dataset) AS d ON d.m = r.n;

INSERT INTO run_measure (run_id, done, measures, attempt, measured_at)
SELECT t.run_id, s, jsonb_build_object('loss', 2.0 / s, 'lr', 0.0001, 'tokens_per_s', 900), 1,
    now() FROM (SELECT run_id FROM training_run ORDER BY id DESC LIMIT 2) AS t,
    generate_series(1, :few) AS s;

INSERT INTO run_log (run_id, id, level, message, logged_at)
SELECT t.run_id, v7(now(), s), 'INFO', 'step ' || s || ' of many', now()
FROM (SELECT run_id FROM training_run ORDER BY id DESC LIMIT 2) AS t,
    generate_series(1, :few) AS s;

INSERT INTO model_version (id, role, number, name, kind, base_model, stage, is_control,
    training_run_id, dataset_id, metrics, created_at)
SELECT v7(t.created_at, 7), t.role, row_number() OVER (PARTITION BY t.role ORDER BY t.id),
    t.role || '-v' || row_number() OVER (PARTITION BY t.role ORDER BY t.id), 'adapter', 'tiny',
    'candidate', false, t.id, t.dataset_id, '{}', t.created_at
FROM training_run AS t;

INSERT INTO suite (id, name, version, role, content_hash, n_tasks, origin, description,
    created_at)
SELECT v7(now(), n), 'suite-' || n, 1, 'coder', md5(n::text), :few, 'made', '', now()
FROM generate_series(1, :versions) AS n;

INSERT INTO suite_task (id, suite_id, task_id, prompt, grader, reference, attributes)
SELECT v7(now(), n), (SELECT id FROM suite ORDER BY id DESC LIMIT 1), 't/' || n,
    jsonb_build_array(jsonb_build_object('role', 'user', 'content', text_of(n))), 'calls', '{}',
    jsonb_build_object('task_type', 'type-' || n % 6)
FROM generate_series(1, :few) AS n;

INSERT INTO evaluation (id, suite_id, model_version_id, subject, samples_per_task, n_samples,
    n_lost, success_rate, ci_low, ci_high, tokens_per_s, suite_hash, metrics, settings, sandbox,
    created_at)
SELECT v7(call_at(n, :versions), n), (SELECT id FROM suite ORDER BY id DESC LIMIT 1),
    (SELECT id FROM model_version ORDER BY id DESC OFFSET n % 6 LIMIT 1), 'coder-v' || n, 5,
    :few * 5, 0, 0.5, 0.4, 0.6, 400, 'x', '{}', '{}', '{}', call_at(n, :versions)
FROM generate_series(1, :versions) AS n;

INSERT INTO sample (id, evaluation_id, suite_task_id, number, answer, passed, status, metrics)
SELECT v7(now(), row_number() OVER ()), e.id, t.id, k, code_of(k),
    (hashtext(t.id::text || e.id::text || k) % 2) = 0, 'PASS', '{}'
FROM (SELECT id FROM evaluation ORDER BY id DESC LIMIT 2) AS e, suite_task AS t,
    generate_series(1, 5) AS k;

INSERT INTO decision (id, kind, role, inputs, rule, outcome, reasons, actor, subject_id,
    created_at)
SELECT v7(call_at(n, :few * 10), n), 'evaluator.deploy', 'coder', '{"ci_low": 1.0}',
    '{"deploy_points": 10}', 'iterate', '["It is not better."]', 'flywheel',
    (SELECT id FROM model_version ORDER BY id DESC LIMIT 1), call_at(n, :few * 10)
FROM generate_series(1, :few * 10) AS n;

INSERT INTO verdict (id, role, suite_id, baseline_evaluation_id, candidate_evaluation_id,
    n_tasks, improvement_points, ci_low, ci_high, p_value, outcome, report, decision_id,
    created_at)
SELECT v7(call_at(n, :versions), n), 'coder', (SELECT id FROM suite ORDER BY id DESC LIMIT 1),
    (SELECT id FROM evaluation ORDER BY id DESC OFFSET 1 LIMIT 1),
    (SELECT id FROM evaluation ORDER BY id DESC LIMIT 1), :few, 4.0, -1.0, 9.0, 0.1, 'iterate',
    '{}', (SELECT id FROM decision ORDER BY id DESC LIMIT 1), call_at(n, :versions)
FROM generate_series(1, :versions) AS n;

INSERT INTO experiment (id, role, kind, unit_kind, control_model_version_id,
    treatment_model_version_id, treatment_share, phase, salt, plan, status, state, started_at,
    ended_at)
SELECT v7(call_at(n, :versions), n), (:roles)[1 + n % 5], 'ab', 'episode', c.id, t.id, 0.5, 0,
    's', '{"alpha": 0.05}', CASE WHEN n > :versions - 5 THEN 'running' ELSE 'promoted' END,
    '{}', call_at(n, :versions), CASE WHEN n > :versions - 5 THEN NULL ELSE now() END
FROM generate_series(1, :versions) AS n,
    (SELECT id FROM model_version ORDER BY id LIMIT 1) AS c,
    (SELECT id FROM model_version ORDER BY id DESC LIMIT 1) AS t;

INSERT INTO assignment (id, experiment_id, unit, arm, stratum, phase, assigned_at, n_errors, n_slow,
    n_refusals, n_tool_calls, n_bad_tool_calls, n_fallbacks, cost_usd, tokens, n_tasks, n_successes,
    timed_out, n_calls, outcome, outcome_at)
SELECT v7(now(), n * 2 + e.k), e.id, 'u' || n, (ARRAY['control', 'treatment'])[1 + n % 2], '', 0, now(), 0, 0,
    0, 0, 0, 0, 0.01, 900, 0, 0, false, 3,
    n % 3 > 0, now()
FROM (SELECT id, row_number() OVER (ORDER BY id DESC) - 1 AS k FROM experiment ORDER BY id DESC
      LIMIT 2) AS e,
    generate_series(1, :few * 5) AS n;

INSERT INTO experiment_look (experiment_id, looked_at, phase, n_treatment, n_control, e_value,
    needed_e, estimate, low, high, split_e)
SELECT e.id, now() - make_interval(mins => 400 - n), 0, n * 3, n * 3, exp(n / 100.0), 20, 0.05,
    -0.1, 0.2, 1
FROM (SELECT id FROM experiment ORDER BY id DESC LIMIT 2) AS e, generate_series(1, 400) AS n;

INSERT INTO review_item (id, role, kind, subject_id, reason, detail, priority, n_wanted, status,
    created_at)
SELECT v7(created_at, n + 3000000000), role, 'example', id, 'random', '{}', (n % 1000) / 1000.0,
    CASE WHEN n % 10 = 0 THEN 2 ELSE 1 END, CASE WHEN n % 2 = 0 THEN 'done' ELSE 'open' END,
    created_at
FROM (SELECT id, role, created_at, row_number() OVER (ORDER BY id) AS n FROM example
      WHERE status = 'kept' ORDER BY id DESC LIMIT :examples / 10) AS kept;

INSERT INTO review_label (id, item_id, interaction_id, reviewer, action, value, seconds,
    created_at)
SELECT v7(created_at, row_number() OVER ()), id, subject_id,
    'reviewer-' || hashtext(id::text) % 5, 'accept', '{}', 8.5, created_at
FROM review_item WHERE status = 'done';

INSERT INTO usage_day (day, role, project, model, key_name, n_calls, n_errors, n_cached,
    n_estimated, n_unpriced, input_tokens, output_tokens, cost_usd)
SELECT current_date - d, r, 'default', 'model-' || m, 'key-' || k, 900, 3, 0, 0, 0, 90000,
    30000, 1.2
FROM generate_series(0, 60) AS d, unnest(:roles) AS r, generate_series(0, 2) AS m,
    generate_series(0, 4) AS k;

INSERT INTO gateway_key (id, name, prefix, key_hash, kind, limits, actor, created_at)
SELECT v7(now(), n), 'key-' || n, 'fw-' || n, md5(n::text), 'agent', '{}', 'ada', now()
FROM generate_series(1, :versions) AS n;

INSERT INTO admin_user (id, name, role, actor, created_at)
SELECT v7(now(), n), 'reviewer-' || n, 'reviewer', 'ada', now()
FROM generate_series(0, :versions) AS n;

INSERT INTO audit_entry (id, actor, role, action, subject_kind, subject_id, before, after, via,
    address, created_at)
SELECT v7(call_at(n, :few * 10), n), 'reviewer-' || n % 5, 'reviewer', 'review.label', 'review',
    n::text, '{"status": "open"}', '{"status": "done"}', 'password', '127.0.0.1',
    call_at(n, :few * 10)
FROM generate_series(1, :few * 10) AS n;

INSERT INTO promotion (id, role, kind, to_model_version_id, reason, actor, created_at)
SELECT v7(created_at, 9), 'coder', 'promote', id, 'better', 'flywheel', created_at
FROM model_version ORDER BY id LIMIT 40;

INSERT INTO role_serving (role, model_version_id, promotion_id, updated_at)
SELECT 'coder', to_model_version_id, id, now() FROM promotion ORDER BY id DESC LIMIT 1;

INSERT INTO spool_account (writer, source, seen, delivered, waiting, held, damaged, dropped,
    reported_at)
SELECT 'host:' || n, 'gateway', 10, 10, 0, 0, 0, '{}', now()
FROM generate_series(1, :versions) AS n;

ANALYZE;
