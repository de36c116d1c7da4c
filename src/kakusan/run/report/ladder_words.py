"""Text of the ladder's page in English and Japanese: sentences by name, with the same names in both languages."""

from __future__ import annotations

from typing import Any

ENGLISH: dict[str, Any] = {
    "title": "From VAE to diffusion model: only two changes",
    "intro": "One model per rung, trained on the same data with the same budget ({budget} each). All models are measured by the "
    "same bound, on the first {n} held-out examples of {data}. Fewer bits/dim are better.",
    "comparable": "The numbers can be compared because all rungs give {observation}.",
    "rung": "rung",
    "new": "what is new",
    "latents": "latents",
    "parameters": "parameters",
    "steps": "steps",
    "bits": "bits/dim",
    "stderr": "standard error",
    "reconstruction": "reconstruction",
    "kl": "latents",
    "moved": "change",
    "distance": "distance",
    "changes": {
        "vae": "One level of latents, smaller than the data.",
        "two-levels": "A second level, which learns the prior of the first level.",
        "levels": "Eight levels.",
        "learned-noise": "First change: every latent is as large as the data. The encoder is learned, and starts as fixed noise.",
        "fixed-noise": "Second change: the encoder stays fixed noise. This is a diffusion model of eight steps.",
        "ddpm": "The same with 1,000 steps. Fixed noise has a closed form, so a training step needs only one level.",
    },
    "pays": {
        "reconstruction": "Compared with the rung above, the reconstruction changes by {reconstruction} bits/dim and the latents by {kl}.",
        "first": "The reconstruction costs {reconstruction} bits/dim, the latents {kl}.",
    },
    "bars": "Where the bits go",
    "bars_alt": "Terms of the bound of each rung in bits per dimension",
    "bars_are": "The bars of a rung sum to its bits/dim. Reconstruction: bits of an image given the first latent. Level l: bits by which "
    "z_l differs from the prediction of the level above. Diffusion: the same for all steps. Prior: bits of the last latent.",
    "samples": "Samples",
    "samples_are": "Samples of each rung, not selected. Distance: Fréchet distance between samples and real images, lower is better.",
    "samples_alt": "Samples of the rung {name}",
    "reading": "How to read it",
    "reading_is": "Fewer bits do not imply better samples. A learned encoder can hide what the decoder finds hard, so a few levels have "
    "low cost. Fixed noise costs more bits per level, but more levels take no more training time: with a closed form for z_t, a training "
    "step draws one of 1,000 levels. A change and its standard error compare both models on the same examples.",
    "terms": "All terms",
    "term": "term",
    "reproduce": "How to reproduce it",
    "runs": "Each rung is an ordinary run: {runs}. Sample, evaluate or report it like any other run.",
}

JAPANESE: dict[str, Any] = {
    "title": "VAE から拡散モデルへ：変更は二つだけ",
    "intro": "段ごとに一つのモデルを、同じデータと同じ予算（それぞれ {budget}）で学習しました。どれも同じ下限で、{data} の評価用データの"
    "最初の {n} 個で測ります。bits/dim は小さいほど良い値です。",
    "comparable": "どの段も同じ 8 ビット画素の確率を与えるので、数値を比べられます。観測モデル：{observation}。",
    "rung": "段",
    "new": "新しいこと",
    "latents": "潜在変数",
    "parameters": "パラメータ",
    "steps": "ステップ",
    "bits": "bits/dim",
    "stderr": "標準誤差",
    "reconstruction": "再構成",
    "kl": "潜在変数",
    "moved": "変化",
    "distance": "距離",
    "changes": {
        "vae": "データより小さい潜在変数が一層。",
        "two-levels": "二層目。一層目の事前分布を学習します。",
        "levels": "八層。",
        "learned-noise": "一つ目の変更：どの潜在変数もデータと同じ大きさ。エンコーダは学習し、固定ノイズから始めます。",
        "fixed-noise": "二つ目の変更：エンコーダは固定ノイズのまま。これは 8 ステップの拡散モデルです。",
        "ddpm": "同じものを 1,000 ステップで。固定ノイズには閉じた形があり、学習の一歩に要る段は一つだけです。",
    },
    "pays": {
        "reconstruction": "上の段と比べて、再構成は {reconstruction} bits/dim、潜在変数は {kl} 変わりました。",
        "first": "再構成は {reconstruction} bits/dim、潜在変数は {kl} です。",
    },
    "bars": "どの項が払うか",
    "bars_alt": "各段の下限の内訳（bits/dim）",
    "bars_are": "段ごとの棒の和がその bits/dim です。reconstruction：最初の潜在変数から画像を符号化するビット。level l：z_l と、"
    "上の層の予測との差のビット。diffusion：全ステップについて同じもの。prior：最後の潜在変数のビット。",
    "samples": "サンプル",
    "samples_are": "各段のサンプル（選んでいません）。距離：サンプルと本物の画像のフレシェ距離。小さいほど良い。",
    "samples_alt": "段 {name} のサンプル",
    "reading": "読み方",
    "reading_is": "ビットが少なくても、サンプルが良いとは限りません。学習したエンコーダは、デコーダの苦手なものを隠せるので、少ない層で"
    "安く済みます。固定ノイズは層ごとの費用が高い代わりに、層の数がただになります。z_t に閉じた形があり、1,000 層のうち一つを引けば"
    "学習できるからです。変化とその標準誤差は、同じデータでの二つのモデルの差です。",
    "terms": "すべての項",
    "term": "項",
    "reproduce": "再現するには",
    "runs": "どの段も普通の学習結果です：{runs}。ほかと同じように、サンプル・評価・レポートができます。",
}

LADDER_WORDS = {"en": ENGLISH, "ja": JAPANESE}
