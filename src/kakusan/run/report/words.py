"""Text of the report in English and Japanese: sentences by name, with the same names in both languages."""

from __future__ import annotations

from typing import Any

LANGUAGES = ("en", "ja")

ENGLISH: dict[str, Any] = {
    "samples_alt": "A grid of samples drawn from the trained model",
    "samples": "Samples of the model, not selected.",
    "recognized": "recognized",
    "recognized_is": "of {n} samples are labeled by a digit classifier with at least 90 % confidence. Real images score {real}.",
    "distance": "distance to real images",
    "distance_is": "Fréchet distance in {features} features; lower is better. Real images score {real}.",
    "rate_is": "Bound on the negative log-likelihood of held-out data; lower is better.",
    "nats_are": "{nats} nats or {bits} bits per example, from {n} examples. Estimator: {estimator}.",
    "error_mc": "Monte Carlo part of the standard error: {error}.",
    "error_examples": "Part that comes from the choice of examples: {error}.",
    "measuring": "Training is finished. The bound is being measured.",
    "data": "data",
    "data_are": "{name}: {train} training examples, {held_out} held out",
    "training": "training",
    "training_took": "{minutes} minutes, {steps} steps, {examples} examples",
    "model": "model",
    "model_is": "{parameters} parameters, on {device}",
    "command": "Command",
    "curves": "Is it learning?",
    "bound_alt": "Held-out bits per dimension against training examples, from {first} to {last}",
    "bound_curve": "Bound on a fixed part of the held-out data; lower is better. The band is two standard errors. "
    "Dashed: the bound of as many training examples. A growing gap is a sign of memorization.",
    "loss_alt": "Training loss against training examples, from {first} to {last}",
    "loss_curve": "Training loss; lower is better. It is what training minimizes.",
    "may_rise": "Why bits/dim may rise while samples improve: the training loss gives little weight to weak noise. The "
    "bound counts every bit, and most bits describe weak noise that no eye sees.",
    "floor": "A density with unit variance cannot go below {floor} bits/dim on 8-bit images, however good the "
    "reconstruction. This model is {above} above that limit. Compare it with the limit, not with the 8 bits of a raw image.",
    "weak_noise": "{share} of these bits are spent at t <= {t}, on noise too weak to be seen. After a short training that "
    "is typical, and it says little about how samples look.",
    "stages": "Samples during training",
    "stages_are": "Samples of the averaged weights, always from the same noise.",
    "stage_alt": "Samples after {step} steps",
    "step": "step {step}",
    "terms": "Terms of the bound",
    "terms_alt": "Terms of the bound in bits per dimension",
    "terms_sum": "The terms sum to the bound above.",
    "term_meanings": {
        "reconstruction": "bits to encode an image given the first latent",
        "diffusion": "bits for the reverse steps between latents",
        "prior": "bits by which the last latent differs from pure noise",
        "cluster": "bits to name the cluster of an image",
        "kl": "bits by which the posterior of the latents differs from the prior",
        "grid": "width of a gray level, which turns a density into a probability",
        "bound": "the whole bound",
    },
    "profile": "Where the information is",
    "levels_alt": "Bits per dimension of each range of noise levels",
    "levels": "Cost of the reverse steps by noise level, from the data (top) to pure noise, with two standard errors. A "
    "long bar is a noise level at which the network is uncertain. Levels below 0.0001 bits/dim are left out.",
    "latents_alt": "Bits of each latent, sorted",
    "latents": "Information that each latent carries about an image, in descending order. A latent below 0.01 nats is "
    "called collapsed: its posterior equals the prior.",
    "bits": "bits",
    "third_term": "Two forms of the third term",
    "third_term_column": "third term",
    "third_term_is": "The exact form is the ELBO. The notes' form is another lower bound of the log-likelihood. It can lie "
    "above or below the ELBO.",
    "compared": "Samples compared with real images",
    "compared_are": "{n} samples and {reference} held-out images, in {features} features. The last "
    "column is the score of real images, measured in the same way: the best score to expect.",
    "measure": "measure",
    "value": "samples",
    "stderr": "standard error",
    "real": "real images score",
    "meaning": "meaning, and what is better",
    "meanings": {
        "frechet_distance": "distance between the feature distributions of samples and real images; lower is better",
        "frechet_distance_unbiased": "the same, extrapolated to infinitely many samples; lower is better",
        "kernel_distance": "another distance between the two distributions, without bias; lower is better",
        "precision": "share of samples that lie among real images; higher is better",
        "recall": "share of real images that lie among samples; higher is better",
        "density": "density of real images around samples; 1 if equal",
        "coverage": "share of real images with a sample nearby; higher is better",
        "two_sample_accuracy": "accuracy of a classifier that separates samples from real images; 0.5 if equal",
        "class_chi_square": "imbalance of the ten classes; lower is better",
        "recognized": "share that the classifier labels with at least 90 % confidence; higher is better",
        "grid_power": "strength of a 2 x 2 pixel pattern compared with real images; 1 if equal",
        "nearer_features": "share of samples closer to training than to held-out images; 0.5 without copying",
        "copied_features": "share of samples suspiciously close to one training image; lower is better",
        "nearer_pixels": "share of samples closer to training than to held-out images, by pixels; 0.5 without copying",
        "copied_pixels": "share of samples suspiciously close to one training image, by pixels; lower is better",
    },
    "figures": {
        "forward": (
            "Forward process",
            "Four test images. Each row follows one path of the forward process: from the image (t = 0, left) to pure "
            "noise (t = T, right).",
        ),
        "reverse": (
            "Reverse process",
            "Two samples, from pure noise (t = T, left) to the sample (t = 0, right). The upper row of each pair is the "
            "latent z_t. The lower row is the network's estimate of the image from that z_t.",
        ),
        "clusters": (
            "Clusters",
            "Centers of the k-means clusters on which the model is conditioned, in order of their size. A sample first "
            "draws a cluster, then denoises.",
        ),
        "closest": (
            "Are samples copies of training images?",
            "Upper row: the samples that are closest to a training image. Lower row: the nearest training image of each.",
        ),
        "reconstructions": (
            "Reconstructions",
            "Rows in pairs. Upper row: test images. Lower row: the mean of the decoder for a latent drawn from the "
            "encoder.",
        ),
    },
    "reproduce": "How to reproduce it",
    "settings": "All settings",
    "glossary": "Glossary",
    "glossary_is": "bits/dim: bits per pixel and channel that an ideal code of this model would need. ELBO: evidence lower "
    "bound on the log-likelihood. KL: Kullback-Leibler divergence. SNR: signal-to-noise ratio of a noise level. Epoch: one "
    "pass over the training data. Held out: not used in training.",
}

JAPANESE: dict[str, Any] = {
    "samples_alt": "学習したモデルのサンプル",
    "samples": "モデルのサンプル（選んでいません）。",
    "recognized": "認識率",
    "recognized_is": "{n} 個のサンプルのうち、数字の分類器が 90 % 以上の確信で分類した割合。本物の画像では {real}。",
    "distance": "本物との距離",
    "distance_is": "特徴量（{features}）でのフレシェ距離。小さいほど良い。本物の画像では {real}。",
    "rate_is": "評価用データの負の対数尤度の上限。小さいほど良い。",
    "nats_are": "データ一つあたり {nats} ナット、{bits} ビット（{n} 個で評価）。推定法：{estimator}。",
    "error_mc": "標準誤差のうちモンテカルロ法によるもの：{error}。",
    "error_examples": "評価用データの選び方によるもの：{error}。",
    "measuring": "学習は終わりました。下限を測っています。",
    "data": "データ",
    "data_are": "{name}：学習用 {train}、評価用 {held_out}",
    "training": "学習",
    "training_took": "{minutes} 分、{steps} ステップ、{examples} 個",
    "model": "モデル",
    "model_is": "パラメータ {parameters} 個、{device}",
    "command": "コマンド",
    "curves": "学習は進んでいるか",
    "bound_alt": "評価用データの bits/dim と学習に使ったデータの数、{first} から {last} へ",
    "bound_curve": "評価用データの決まった一部での bits/dim。小さいほど良い。帯は標準誤差の2倍。破線は同数の訓練データ。",
    "loss_alt": "学習の損失と学習に使ったデータの数、{first} から {last} へ",
    "loss_curve": "学習の損失。小さいほど良い。学習が最小化しているものです。",
    "may_rise": "サンプルが良くなる間に bits/dim が上がることがあるのはなぜか：学習の損失は弱いノイズを軽く扱いますが、"
    "下限はすべてのビットを数え、その多くは目に見えない弱いノイズを表すからです。",
    "floor": "分散 1 の密度は、8 ビット画像では、復元がどれほど良くても {floor} bits/dim を下回れません。"
    "このモデルはそれより {above} だけ上です。生の画像の 8 ビットではなく、この値と比べてください。",
    "weak_noise": "このビットの {share} は、目に見えないほど弱い t <= {t} のノイズに使われています。"
    "短い学習では普通のことで、サンプルの見た目とはほとんど関係しません。",
    "stages": "学習中のサンプル",
    "stages_are": "平均した重みのサンプル。いつも同じノイズから始めます。",
    "stage_alt": "{step} ステップのサンプル",
    "step": "{step} ステップ",
    "terms": "下限の内訳",
    "terms_alt": "下限の各項（bits/dim）",
    "terms_sum": "各項の和が上の値です。",
    "term_meanings": {
        "reconstruction": "最初の潜在変数から画像を符号化するビット",
        "diffusion": "潜在変数の間の逆拡散過程のビット",
        "prior": "最後の潜在変数と純粋なノイズの差のビット",
        "cluster": "画像のクラスタを表すビット",
        "kl": "潜在変数の事後分布と事前分布の差のビット",
        "grid": "密度を確率に直す、一階調の幅",
        "bound": "下限全体",
    },
    "profile": "情報はどこにあるか",
    "levels_alt": "ノイズの強さごとの bits/dim",
    "levels": "逆拡散過程の各段の費用。データ（上）から純粋なノイズ（下）まで、標準誤差の2倍つき。"
    "棒の長いところで、ネットワークは迷っています。0.0001 bits/dim 未満は省きます。",
    "latents_alt": "各潜在変数のビット（大きい順）",
    "latents": "各潜在変数が画像について運ぶ情報（大きい順）。0.01 ナット未満のものは崩壊しています。"
    "事後分布が事前分布に一致するという意味です。",
    "bits": "ビット",
    "third_term": "第三項の二つの形",
    "third_term_column": "第三項",
    "third_term_is": "exact は ELBO です。notes はノートの形で、対数尤度の別の下限です。ELBO より上にも下にもなります。",
    "compared": "サンプルと本物の画像の比較",
    "compared_are": "サンプル {n} 個と評価用の画像 {reference} 枚を、特徴量（{features}）で比べます。"
    "最後の列は、本物の画像を同じ方法で測った値です。期待できる最良の値です。",
    "measure": "指標",
    "value": "サンプル",
    "stderr": "標準誤差",
    "real": "本物の画像の値",
    "meaning": "意味と、良い向き",
    "meanings": {
        "frechet_distance": "特徴量の分布の差。小さいほど良い",
        "frechet_distance_unbiased": "同じものを、サンプルを無限に増やした値に外挿。小さいほど良い",
        "kernel_distance": "偏りのない、分布の差。小さいほど良い",
        "precision": "本物の近くにあるサンプルの割合。大きいほど良い",
        "recall": "サンプルの近くにある本物の割合。大きいほど良い",
        "density": "サンプルの周りの本物の密度。等しければ 1",
        "coverage": "近くにサンプルがある本物の割合。大きいほど良い",
        "two_sample_accuracy": "サンプルと本物を見分けられる割合。等しければ 0.5",
        "class_chi_square": "十個のクラスの偏り。小さいほど良い",
        "recognized": "分類器が 90 % 以上の確信で分類する割合。大きいほど良い",
        "grid_power": "2 x 2 画素の模様の強さ。等しければ 1",
        "nearer_features": "評価用より学習用の画像に近いサンプルの割合。写していなければ 0.5",
        "copied_features": "一枚の学習用の画像に近すぎるサンプルの割合。小さいほど良い",
        "nearer_pixels": "同じものを画素で。写していなければ 0.5",
        "copied_pixels": "同じものを画素で。小さいほど良い",
    },
    "figures": {
        "forward": (
            "拡散過程",
            "四枚の評価用の画像。各行は拡散過程の一つの経路で、画像（t = 0、左）から純粋なノイズ（t = T、右）へ進みます。",
        ),
        "reverse": (
            "逆拡散過程",
            "二つのサンプル。純粋なノイズ（t = T、左）からサンプル（t = 0、右）へ進みます。"
            "組の上の行は潜在変数 z_t、下の行はその z_t からネットワークが推定した画像です。",
        ),
        "clusters": (
            "クラスタ",
            "モデルの条件になる k-means のクラスタの中心（大きい順）。サンプリングでは、まずクラスタを引き、"
            "次にノイズを取り除きます。",
        ),
        "closest": (
            "サンプルは学習用の画像の写しか",
            "上の行：学習用の画像に最も近いサンプル。下の行：それぞれに最も近い学習用の画像。",
        ),
        "reconstructions": (
            "復元",
            "上の行：評価用の画像。下の行：エンコーダから引いた潜在変数での、デコーダの平均。",
        ),
    },
    "reproduce": "再現するには",
    "settings": "すべての設定",
    "glossary": "用語",
    "glossary_is": "bits/dim：このモデルによる理想的な符号で、一画素・一チャンネルに必要なビット数。"
    "ELBO：対数尤度の変分下限。KL：カルバック・ライブラー情報量。SNR：信号対雑音比。"
    "エポック：学習用データの一巡。評価用データ：学習に使わないデータ。",
}

WORDS = {"en": ENGLISH, "ja": JAPANESE}
